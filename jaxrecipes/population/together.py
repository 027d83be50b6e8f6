"""Runs that train together: each asks for its steps in turn, up to the end of its next epoch."""

import contextlib
import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from jaxrecipes.train.run_state import Call, EpochOver, Finished, Look, Position, Turns

Name = TypeVar("Name", bound=Hashable)


@dataclasses.dataclass(frozen=True)
class Ended:
    """A run that is over.

    Attributes:
      finished: how it ended; None where a signal stopped it.
      told: its last epoch, if that was trained now.
    """

    finished: Finished | None
    told: EpochOver | None


Outcome: TypeAlias = EpochOver | Ended | Exception


class Trainer(Protocol):
    """How the steps that several runs ask for are taken.

    Attributes:
      chunk: the steps of how many runs are taken at once.
    """

    chunk: int

    def train(self, calls: Sequence[Call]) -> list[Any]:
        """What each call is answered with: `(state, sums, log)`, or the exception it met."""

    def own(self, position: Position) -> Position:
        """The position with state and sums as arrays of its own."""


class OneByOne:
    """Each run's steps by the program that it would have alone: equal to that in every bit.

    All calls are dispatched before any is waited for, so the host works on one run while the
    device trains another.
    """

    chunk = 1

    def train(self, calls: Sequence[Call]) -> list[Any]:
        """See `Trainer`."""
        return [_answer(call) for call in calls]

    def own(self, position: Position) -> Position:
        """The position as it is."""
        return position


def advance(
    runs: Mapping[Name, Turns],
    trainer: Trainer,
    *,
    answers: Mapping[Name, Any] | None = None,
    within: Callable[[Name], contextlib.AbstractContextManager[Any]] | None = None,
) -> dict[Name, Outcome]:
    """Takes every run to the end of its next epoch, or to its own end.

    One run's failure changes nothing for the others.

    Args:
      runs: what goes on, by name.
      trainer: takes their steps.
      answers: to what runs said last, see `EpochOver`.
      within: entered while the host works for a run, as to name it in the log.

    Returns:
      By name: the epoch that is over; of a run that ended, how; of one that failed, with what.

    Raises:
      OSError: the disk is full or not writable.
    """
    outcomes: dict[Name, Outcome] = {}
    waiting: dict[Name, Any] = {name: (answers or {}).get(name) for name in runs}
    while waiting:
        calls: dict[Name, Call] = {}
        for name, answer in waiting.items():
            with contextlib.nullcontext() if within is None else within(name):
                asked = _asked(runs[name], answer, trainer)
            if isinstance(asked, Call):
                calls[name] = asked
            else:
                outcomes[name] = asked
        waiting = dict(zip(calls, trainer.train(list(calls.values())), strict=True))
    return outcomes


def _asked(turns: Turns, answer: Any, trainer: Trainer) -> Call | Outcome:
    """The steps that a run asks for next, or what became of it."""
    last: EpochOver | None = None
    try:
        asked = turns.throw(answer) if isinstance(answer, Exception) else turns.send(answer)
        while True:
            if isinstance(asked, Look):
                asked = turns.send(trainer.own(asked.position))
            elif isinstance(asked, EpochOver) and asked.is_last:
                last, asked = asked, turns.send(None)
            else:
                return asked
    except StopIteration as ended:
        return Ended(ended.value, last)
    except OSError:
        raise
    except Exception as error:
        return error


def _answer(call: Call) -> Any:
    try:
        return call.run()
    except Exception as error:  # of the device, say for want of memory
        return error
