"""Population based training in a search: after some epochs the worst trials go on from the best
ones, with hyperparameters that were changed.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from jaxrecipes.config import replaced
from jaxrecipes.fields import leaves_of
from jaxrecipes.files import write_json
from jaxrecipes.population.lineage import Lineage
from jaxrecipes.population.pbt import Move, exploit
from jaxrecipes.population.take_over import take_over
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.hparams import learning_rate_schedule
from jaxrecipes.train.run_state import EpochOver
from jaxrecipes.tune.shared import Shared
from jaxrecipes.tune.space import Float, Space
from jaxrecipes.tune.trial_runs import TrialRuns

_SHARE = 0.25  # of the trials go on from another one
_FACTORS = (0.8, 1.25)
_RESAMPLED = 0.25  # of the changes are new draws from the range


class Exchange:
    """Who went on from whom, in `moves.json`, and what that makes of the trials' configs.

    A trial's config has, for each hyperparameter that is explored, its founder's schedule times a
    factor for each interval between exchanges: those of the past are history, that of the last
    exchange holds for the rest. So all trials have one structure, and a run of the config from the
    start is at the trial's weights, bit for bit on a CPU.

    Explored are the floats of the space that are hyperparameters, but for loss weights: runs with
    other weights have losses that do not compare.

    Args:
      workdir: of the search.
      base: the config that trials start from.
      space: what they vary.
      every_epochs: from one exchange to the next.
      seed: of the draws.
    """

    def __init__(
        self, workdir: pathlib.Path, base: RunConfig, space: Space, *, every_epochs: int, seed: int
    ):
        self._file, self._space, self._seed = workdir / "moves.json", space, seed
        self._every = every_epochs
        self._paths = [
            leaf.path
            for leaf in leaves_of(base)
            if isinstance(space.parameters.get(leaf.path), Float)
            and not leaf.name.startswith("loss_weight/")
        ]
        if not self._paths:
            raise ValueError(
                "--scheduler pbt changes hyperparameters while trials train, and the search has no "
                "range of one; add --search optim.learning_rate=LOW:HIGH:log"
            )
        self.moves: list[Move] = []
        if self._file.exists():
            self.moves = [Move(**move) for move in json.loads(self._file.read_text())]

    def at(self, step: int) -> list[Move]:
        """The moves after so many steps."""
        return [move for move in self.moves if move.step == step]

    def is_due(self, epoch: int) -> bool:
        """Whether trials are exchanged after an epoch that is not the last."""
        return epoch % self._every == 0

    def decide(
        self,
        scores: Mapping[int, float],
        values: Mapping[int, Mapping[str, Any]],
        *,
        step: int,
        mode: Literal["min", "max"],
    ) -> None:
        """Decides who goes on from whom, and puts it on record; not a second time at a step.

        Args:
          scores: by trial.
          values: what each trial was drawn with.
          step: steps taken.
          mode: whether lower or higher scores are better.
        """
        if self.at(step) or len(scores) < 2:
            return
        members = sorted(scores)
        rng = np.random.default_rng([self._seed, step])
        share = max(_SHARE, 1 / len(members)) if len(members) < 4 else _SHARE
        worse = exploit(
            np.array([scores[member] for member in members]), rng, mode=mode, share=share
        )
        self.moves += [
            Move(step, members[own], members[source], self._explore(members[source], values, rng))
            for own, source in worse.items()
        ]
        write_json(self._file, [dataclasses.asdict(move) for move in self.moves])

    def carry_out(
        self,
        trials: Mapping[int, TrialRuns],
        configs: Callable[[int], RunConfig],
        shared: Shared,
        *,
        step: int,
    ) -> dict[tuple[int, int], Any]:
        """Carries out the moves after so many steps; doing it again changes nothing.

        Args:
          trials: those under way.
          configs: number of a trial -> its config as it was drawn.
          shared: makes recipes.
          step: steps taken.

        Returns:
          What the runs of the trials that moved are answered with, by trial and run.
        """
        answers: dict[tuple[int, int], Any] = {}
        for move in self.at(step):
            if {move.member, move.source} <= trials.keys():
                own, source = trials[move.member].told, trials[move.source].told[0]
                length = source.run.timeline.steps_per_epoch
                config = self.config(configs, move.member, step=step, steps_per_epoch=length)
                run, position = take_over(
                    own[0], source, config=config, recipe=shared.recipe(config)
                )
                own[0] = EpochOver(run=run, position=position)
                answers[move.member, 0] = run, position
        return answers

    def config(
        self, configs: Callable[[int], RunConfig], member: int, *, step: int, steps_per_epoch: int
    ) -> RunConfig:
        """The config of a trial after the moves up to a step.

        Args:
          configs: number of a trial -> its config as it was drawn.
          member: the trial.
          step: steps taken.
          steps_per_epoch: of all trials.
        """
        lineage = self._lineage(member, step)
        config = configs(lineage.founder)
        last = config.total_steps(steps_per_epoch)
        ends = list(range(self._every * steps_per_epoch, last, self._every * steps_per_epoch))
        if not ends:
            return config
        texts: dict[str, Any] = {
            path: f"scale({_text(config, path, steps_per_epoch)}, "
            f"join({_tuple(_products(path, lineage.changes, ends))}, {_tuple(ends)}))"
            for path in self._paths
        }
        if "optim.learning_rate" in texts:
            texts["optim.reference_batch_size"] = None  # what it does is in the text
        return replaced(config, texts)

    def _lineage(self, member: int, step: int) -> Lineage:
        return Lineage.of(member, [move for move in self.moves if move.step <= step])

    def _explore(
        self, source: int, values: Mapping[int, Mapping[str, Any]], rng: np.random.Generator
    ) -> dict[str, float]:
        """A factor for each hyperparameter, by which it stays in its range."""
        lineage = Lineage.of(source, self.moves)
        factors = {}
        for path in self._paths:
            product = _products(path, lineage.changes, [2**62])[-1]
            now, space = values[lineage.founder][path] * product, self._space.parameters[path]
            assert isinstance(space, Float)
            wanted = now * rng.choice(_FACTORS)
            if rng.random() < _RESAMPLED:
                low, high = np.log([space.low, space.high]) if space.log else space.ends
                drawn = rng.uniform(low, high)
                wanted = np.exp(drawn) if space.log else drawn
            wanted = min(max(wanted, space.low), space.high)
            factors[path] = float(wanted / now) if now else 1.0
        return factors


def _products(
    path: str, changes: Sequence[tuple[int, Mapping[str, float]]], ends: Sequence[int]
) -> list[float]:
    """The product of all factors so far: from the start, and from each of the steps on."""
    products = [1.0]
    for end in ends:
        product = 1.0
        for step, factors in changes:
            if step <= end:
                product *= factors[path]
        products.append(product)
    return products


def _text(config: RunConfig, path: str, steps_per_epoch: int) -> str:
    """The schedule that a field describes."""
    if path == "optim.learning_rate":
        return str(learning_rate_schedule(config, steps_per_epoch))
    return str(next(leaf.value for leaf in leaves_of(config) if leaf.path == path))


def _tuple(values: Sequence[Any]) -> str:
    return f"({', '.join(map(repr, values))},)"
