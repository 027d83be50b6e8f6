"""Where a run stands: the steps it has taken, its epochs, and the point that its schedules are at.

As long as an epoch has the same number of steps, these are one number seen in three ways. Other
data or another batch size gives an epoch another length, and then they part.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrecipes.train.config import RunConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timeline:
    """From a position to steps and epochs.

    The position (`TrainState.step`) is what schedules, a freezing plan and the order of the data
    are functions of. Steps taken name checkpoints and entries of the history; they only ever grow.

    Attributes:
      steps_per_epoch: from one validation to the next.
      steps_ahead: the position less the steps taken.
      epochs_ahead: epochs done less those that the position tells.
    """

    steps_per_epoch: int
    steps_ahead: int = 0
    epochs_ahead: int = 0

    @classmethod
    def stored(cls, metadata: Mapping[str, Any]) -> "Timeline":
        """That of a checkpoint."""
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
        """How a run goes on after `taken` steps, perhaps with epochs of another length.

        A run that is counted in epochs stands where as many epochs end as it has done, of the new
        length, and as far into the next one as it was; what is left is epochs of the new length. A
        run that is counted in steps stands at the steps it has taken; its epochs are counted on.

        Args:
          config: whose `steps` or `epochs` are the run's length.
          taken: steps taken.
          steps_per_epoch: the new length.
          history: the epochs so far. A last epoch 0 is that of a foreign checkpoint whose epochs
            are not known: its position is taken as it is.

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
