"""What a run is while it trains: what stays as it is, and where it stands."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jaxrecipes.checkpoint import CheckpointManager
from jaxrecipes.json_files import write_json
from jaxrecipes.report.writer import Writer
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.evaluate import EvalProgram
from jaxrecipes.train.recipe import Recipe
from jaxrecipes.train.run_data import RunData
from jaxrecipes.train.state import TrainState
from jaxrecipes.train.timeline import Timeline


@dataclasses.dataclass(frozen=True, kw_only=True)
class Position:
    """What a run carries from one step to the next.

    Attributes:
      step: where the schedules and the data stand, see `Timeline`.
      state: the training state.
      sums: the metrics of the epoch under way, added up.
      history: an entry for each epoch that is done.
      changes: of config and data since the last entry, in words.
      epoch_began: the step and the time (`time.monotonic`) at which this process began the epoch;
        None between epochs.
      train_compilations: of the training programs of stages that are over.
      seconds_to_first_step: from the start of this process' part of the run to the end of its first
        call.
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
    """What stays as it is while a run trains.

    Attributes:
      recipe, data, config, workdir: as given to `fit`.
      timeline: of the run as it is now.
      evaluate: the compiled evaluation, of all stages.
      checkpoints: the run's.
      writer: where numbers are logged.
      started: when this process began it (`time.monotonic`).
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
        """Steps taken, which is what users are told."""
        return self.timeline.taken(position)

    def is_epoch_end(self, step: int) -> bool:
        """Whether a whole epoch ends at the position."""
        return step % self.timeline.steps_per_epoch == 0

    def epoch_is_open(self, position: Position) -> bool:
        """Whether the epoch under way has no entry in the history yet."""
        last = position.history[-1]["step"] if position.history else 0
        return self.taken(position.step) > last

    def monitored(self, name: str) -> str:
        """The metric that counts where a config names one: the averaged weights' where there are
        any.
        """
        return f"{name}_ema" if self.recipe.ema and self.data.val else name

    @property
    def selected(self) -> str:
        """The metric that decides which checkpoint is the best."""
        return self.monitored(self.config.select_metric)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Writes numbers under the recipe's own names for them."""
        tagged = {self.recipe.tag(name): value for name, value in values.items()}
        self.writer.scalars(self.taken(step), tagged)

    def write_json(self, name: str, value: Any) -> None:
        """A file of the run's folder, which process 0 writes."""
        if jax.process_index() == 0:
            write_json(self.workdir / name, value)
