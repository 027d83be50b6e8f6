"""A trial under way: its run, or its runs under several seeds, and how far they are judged."""

import contextlib
import dataclasses
import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

from jaxrecipes.interrupt import Interrupt
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.fit import in_turns
from jaxrecipes.train.run_state import EpochOver, Finished, Turns
from jaxrecipes.tune.shared import Shared
from jaxrecipes.tune.study import Claimed

_log = logging.getLogger("jaxrecipes")


@dataclasses.dataclass
class TrialRuns:
    """A trial under way.

    Attributes:
      claimed: the trial.
      turns: its runs, one for each seed.
      told: what each said last.
      finished: the runs that are over.
      start: the round of the search in which the trial began.
      checked: epochs that it was judged by.
    """

    claimed: Claimed
    turns: list[Turns]
    told: dict[int, EpochOver]
    finished: dict[int, Finished]
    start: int
    checked: int

    @classmethod
    def begin(
        cls,
        claimed: Claimed,
        config: RunConfig,
        shared: Shared,
        interrupt: Interrupt,
        *,
        seeds: int,
    ) -> "TrialRuns":
        """Opens the trial's runs where they are; not a step is taken.

        Args:
          claimed: the trial.
          config: what it trains.
          shared: data and programs.
          interrupt: of the search.
          seeds: how many runs it has. The first is in the trial's folder, with the config's seed;
            the others are below it in `seed_1` and so on.

        Raises: what a run that begins does, for any of them.
        """
        turns: list[Turns] = []
        told: dict[int, EpochOver] = {}
        try:
            for number in range(seeds):
                own = dataclasses.replace(config, seed=config.seed + number)
                folder = claimed.folder / f"seed_{number}" if number else claimed.folder
                turns.append(
                    in_turns(
                        shared.recipe(own),
                        shared.data(own),
                        own,
                        folder,
                        interrupt=interrupt,
                        programs=shared.programs(own),
                        silent=True,
                    )
                )
                with named(claimed):
                    told[number] = next(turns[-1])  # type: ignore[assignment]
        except BaseException:
            for run in turns:
                run.close()
            raise
        attrs = claimed.trial.user_attrs
        return cls(
            claimed=claimed,
            turns=turns,
            told=told,
            finished={},
            start=attrs.get("start", 0),
            checked=attrs.get("checked", 0),
        )

    @property
    def round(self) -> int:
        """The round of the search that it takes part in next."""
        return self.start + self.checked

    @property
    def epoch(self) -> int:
        """The epoch, from 1, that is judged next."""
        return self.checked + 1

    @property
    def metric(self) -> str:
        """What it is judged by."""
        return self.told[0].run.selected

    @property
    def over(self) -> bool:
        """Whether all runs ended."""
        return len(self.finished) == len(self.turns)

    def due(self) -> list[int]:
        """The runs that train, or end, before the next epoch can be judged."""
        return [
            number
            for number, told in self.told.items()
            if number not in self.finished
            and (len(told.position.history) <= self.checked or told.is_last)
        ]

    def score(self) -> float:
        """The mean over the runs of the metric after the epoch that is judged next; a run that
        ended counts with its last one. NaN where one has none.
        """
        return _mean(
            [
                _metric(told.position.history[: self.checked + 1], self.metric)
                for told in self.told.values()
            ]
        )

    def values(self) -> list[float]:
        """The best of the metric of each run; NaN where it was never finite."""
        best = [run.summary["best"].get(self.metric) for _, run in sorted(self.finished.items())]
        return [math.nan if value is None else float(value) for value in best]

    def close(self) -> None:
        """Lets go of the runs' folders."""
        for run in self.turns:
            run.close()


@contextlib.contextmanager
def named(claimed: Claimed) -> Iterator[None]:
    """Puts the trial before what the library logs."""

    def add(record: logging.LogRecord) -> bool:
        record.msg = f"trial {claimed.trial.number}: {record.msg}"
        return True

    _log.addFilter(add)
    try:
        yield
    finally:
        _log.removeFilter(add)


def _metric(history: Sequence[dict[str, Any]], metric: str) -> float:
    value = (history[-1]["val"] or history[-1]["train"]).get(metric) if history else None
    return math.nan if value is None else float(value)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
