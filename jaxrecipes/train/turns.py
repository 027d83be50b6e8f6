"""A run in turns: what it asks for on its way, so that one run can be trained alone and many of
them together, each none the wiser.
"""

import dataclasses
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeAlias

import numpy as np

from jaxrecipes.train.outcome import Finished
from jaxrecipes.train.programs import Programs
from jaxrecipes.train.run_state import Position, Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    """Asks for `count` steps; answered with `(state, sums, log of the last step)`.

    Attributes:
      programs: of the run's stage.
      position: whose state and sums are donated.
      source, items: what the steps' batches are fetched from, see `Feed`.
      count: how many of the items count.
      logs: whether the log is looked at; otherwise its `loss` alone is waited for.
    """

    programs: Programs
    position: Position
    source: Any
    items: Any
    count: int
    logs: bool

    def run(self) -> tuple[Any, Any, Any]:
        """The steps, dispatched without waiting for the device."""
        position = self.position
        return self.programs.train(
            position.state, position.sums, self.source, self.items, np.int32(self.count)
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """Asks for the position with its state and sums as arrays of its own."""

    position: Position


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpochOver:
    """Says that an epoch is on record and saved, or, when the run begins, where it goes on from.

    Answered with None, or with another run and position to go on from.
    """

    run: Run
    position: Position
    begins: bool = False

    @property
    def is_last(self) -> bool:
        """Whether the run has nothing left to train."""
        return self.position.step >= self.run.end or self.position.stopped_early


Turns: TypeAlias = Generator[Call | Look | EpochOver, Any, Finished | None]


def alone(turns: Turns, after_epoch: Callable[[Sequence[Any]], None] | None) -> Finished | None:
    """Trains a run by itself.

    Args:
      turns: of the run; closed whatever happens.
      after_epoch: see `fit`.
    """
    answer: Any = None
    try:
        while True:
            asked = turns.send(answer)
            answer = None
            if isinstance(asked, Call):
                answer = asked.run()
            elif isinstance(asked, Look):
                answer = asked.position
            elif after_epoch is not None and not asked.begins:
                after_epoch(asked.position.history)
    except StopIteration as ended:
        return ended.value
    finally:
        turns.close()
