"""What a run is while it trains: what stays as it is, where it stands, and what it asks for.

A run asks for its steps instead of taking them, so that one can be trained alone, and many together
without any of them being different for it.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from jaxrecipes.checkpoint import CheckpointManager
from jaxrecipes.files import write_json
from jaxrecipes.report.writer import Writer
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.evaluate import EvalProgram, Evaluation
from jaxrecipes.train.programs import Programs
from jaxrecipes.train.recipe import Recipe
from jaxrecipes.train.run_data import RunData
from jaxrecipes.train.state import TrainState


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timeline:
    """Converts a position to steps taken and epochs.

    Schedules, a freezing plan and the order of the data are functions of the position
    (`TrainState.step`). Checkpoints and entries of the history are named by the steps taken, which
    only ever grow.

    Attributes:
      steps_per_epoch: from one validation to the next.
      steps_ahead: the position less the steps taken.
      epochs_ahead: completed epochs less those that follow from the position.
    """

    steps_per_epoch: int
    steps_ahead: int = 0
    epochs_ahead: int = 0

    @classmethod
    def stored(cls, metadata: Mapping[str, Any]) -> "Timeline":
        """The timeline stored in a checkpoint."""
        ahead = {name: metadata.get(name, 0) for name in ("steps_ahead", "epochs_ahead")}
        return cls(steps_per_epoch=metadata["steps_per_epoch"], **ahead)

    def taken(self, position: int) -> int:
        """Steps taken."""
        return position - self.steps_ahead

    def epoch(self, position: int) -> int:
        """The epoch, from 1, that ends at the position or is under way there."""
        return -(-position // self.steps_per_epoch) + self.epochs_ahead

    def end(self, config: RunConfig) -> int:
        """The position at which the run is over."""
        if config.steps is not None:
            return config.steps + self.steps_ahead
        return (config.epochs - self.epochs_ahead) * self.steps_per_epoch

    def under(
        self,
        config: RunConfig,
        taken: int,
        *,
        steps_per_epoch: int,
        history: Sequence[Mapping[str, Any]],
    ) -> tuple["Timeline", int]:
        """The timeline on which a run resumes after `taken` steps, perhaps with another epoch
        length.

        A run whose length is given in epochs keeps its number of completed epochs, now of the new
        length, and its progress within the next one. A run whose length is given in steps keeps the
        steps it has taken, and goes on counting epochs.

        Args:
          config: whose `steps` or `epochs` are the run's length.
          taken: steps taken.
          steps_per_epoch: the new length.
          history: the epochs so far. Epoch 0 as the last one marks an imported checkpoint whose
            epochs are unknown: its position is kept as it is.

        Returns:
          The new timeline, and the position on it.
        """
        position = taken + self.steps_ahead
        last = history[-1] if history else None
        if last is not None and last["epoch"] == 0:
            return Timeline(steps_per_epoch=steps_per_epoch), position
        done, rest = divmod(position, self.steps_per_epoch)
        done += self.epochs_ahead
        if last is not None and last["step"] == taken:
            done, rest = last["epoch"], 0  # also of an epoch that the run's end cut short
        if config.steps is not None:
            epochs_ahead = done - taken // steps_per_epoch
            return Timeline(steps_per_epoch=steps_per_epoch, epochs_ahead=epochs_ahead), taken
        into = round(rest * steps_per_epoch / self.steps_per_epoch)
        into = min(max(into, min(rest, 1)), steps_per_epoch - 1)
        position = done * steps_per_epoch + into
        return Timeline(steps_per_epoch=steps_per_epoch, steps_ahead=position - taken), position


@dataclasses.dataclass(frozen=True, kw_only=True)
class Position:
    """What a run carries from one step to the next.

    Attributes:
      step: the position of the schedules and the data, see `Timeline`.
      state: the training state.
      sums: the metrics of the current epoch, added up.
      history: an entry for each completed epoch.
      changes: what has changed in config and data since the last entry, in words.
      epoch_began: the step and the time (`time.monotonic`) at which this process began the epoch;
        None between epochs.
      train_compilations: compilations of the training programs of earlier stages.
      seconds_to_first_step: from the start of the run in this process to the end of its first call.
    """

    step: int
    state: TrainState
    sums: Any
    history: Sequence[dict[str, Any]] = ()
    changes: Sequence[str] = ()
    epoch_began: tuple[int, float] | None = None
    train_compilations: int = 0
    seconds_to_first_step: float | None = None

    @property
    def stopped_early(self) -> bool:
        """Whether early stopping has ended the run."""
        stopping = self.state.early_stopping
        return stopping is not None and bool(stopping.should_stop)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What does not change while a run trains.

    Attributes:
      recipe, data, config, workdir: as given to `fit`.
      timeline: the run's current one.
      evaluate: the compiled evaluation, shared by all stages.
      checkpoints: the run's.
      writer: where numbers are logged.
      started: when this process started it (`time.monotonic`).
    """

    recipe: Recipe
    data: RunData
    config: RunConfig
    workdir: pathlib.Path
    timeline: Timeline
    evaluate: EvalProgram
    checkpoints: CheckpointManager
    writer: Writer
    started: float

    @property
    def end(self) -> int:
        """The position at which the run is over."""
        return self.timeline.end(self.config)

    def taken(self, position: int) -> int:
        """Steps taken, which is the number shown to users."""
        return self.timeline.taken(position)

    def is_epoch_end(self, step: int) -> bool:
        """Whether a whole epoch ends at the position."""
        return step % self.timeline.steps_per_epoch == 0

    def epoch_is_open(self, position: Position) -> bool:
        """Whether the epoch under way has no entry in the history yet."""
        last = position.history[-1]["step"] if position.history else 0
        return self.taken(position.step) > last

    def monitored(self, name: str) -> str:
        """The metric to use where a config names one: that of the averaged weights, if there are
        any.
        """
        return f"{name}_ema" if self.recipe.ema and self.data.val else name

    @property
    def selected(self) -> str:
        """The metric that decides which checkpoint is best."""
        return self.monitored(self.config.select_metric)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Logs values under the recipe's own names for them."""
        tagged = {self.recipe.tag(name): value for name, value in values.items()}
        self.writer.scalars(self.taken(step), tagged)

    def write_json(self, name: str, value: Any) -> None:
        """Writes a file in the run's folder, in process 0."""
        if jax.process_index() == 0:
            write_json(self.workdir / name, value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    """Asks for `count` steps; answered with `(state, sums, log of the last step)`.

    Attributes:
      programs: of the run's stage.
      position: whose state and sums are donated.
      source, items: what the steps' batches are fetched from, see `Feed`.
      count: how many of the items count.
      logs: whether the log is read; otherwise only its `loss` is waited for.
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
    """Asks for the position, with state and sums as separate arrays."""

    position: Position


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpochOver:
    """Reports that an epoch has been recorded and saved or, at the start of a run, where it starts.

    Answered with None, or with another run and position to continue from.
    """

    run: Run
    position: Position
    begins: bool = False

    @property
    def is_last(self) -> bool:
        """Whether the run has nothing left to train."""
        return self.position.step >= self.run.end or self.position.stopped_early


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finished:
    """How a run ended: its summary, the best weights, and their evaluation on val and test.

    `interrupted` says that SIGINT or SIGTERM arrived too late to stop it; nothing should be started
    after it.
    """

    summary: dict[str, Any]
    params: Any
    batch_stats: Any
    hparams: dict[str, jax.Array]
    val: Evaluation | None
    test: Evaluation | None
    interrupted: bool = False


Turns: TypeAlias = Generator[Call | Look | EpochOver, Any, Finished | None]


def alone(turns: Turns, after_epoch: Callable[[Sequence[Any]], None] | None) -> Finished | None:
    """Trains a run by itself.

    Args:
      turns: of the run; always closed.
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
