"""The past of a member of population based training, as one schedule per hyperparameter."""

import dataclasses
from collections.abc import Mapping, Sequence

from jaxrecipes import schedules
from jaxrecipes.population.pbt import Move
from jaxrecipes.schedules import Schedule


@dataclasses.dataclass(frozen=True)
class Lineage:
    """What a member's weights went through.

    Attributes:
      founder: the member whose seed and first weights they come from.
      changes: (step, factors) in ascending order: from that step on each hyperparameter is
        multiplied by its factor, on top of those before.
    """

    founder: int
    changes: tuple[tuple[int, Mapping[str, float]], ...] = ()

    @classmethod
    def of(cls, member: int, moves: Sequence[Move]) -> "Lineage":
        """The lineage of a member after `moves`, which are in the order in which they happened."""
        changes: list[tuple[int, Mapping[str, float]]] = []
        for move in reversed(moves):
            if move.member == member:
                changes.insert(0, (move.step, move.factors))
                member = move.source
        return cls(member, tuple(changes))

    def hparams(self, founders: Mapping[str, Schedule]) -> dict[str, Schedule]:
        """The schedules of a plain run of the founder's seed that ends at the member's weights.

        Args:
          founders: the founder's own schedules, without factors.
        """
        return {name: self._changed(name, schedule) for name, schedule in founders.items()}

    def _changed(self, name: str, schedule: Schedule) -> Schedule:
        steps = [step for step, factors in self.changes if name in factors]
        if not steps:
            return schedule
        products = [1.0]
        for _, factors in self.changes:
            if name in factors:
                products.append(products[-1] * factors[name])
        return schedules.scale(schedule, schedules.join(products, steps))
