"""Converts the state of PyTorch's learning-rate schedulers to ours and back."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp

from jaxrecipes import schedules
from jaxrecipes.convert.file_fields import Fields
from jaxrecipes.convert.torch_optim import decimal
from jaxrecipes.fields import Count, CountOrZero, NonNegative, Positive
from jaxrecipes.plateau import PlateauState, ReduceLROnPlateau
from jaxrecipes.schedules import Schedule

_WHERE = "the scheduler's state"


def is_plateau(scheduler_state: Mapping[str, Any]) -> bool:
    """Whether this is the state of a ReduceLROnPlateau."""
    return any(key in scheduler_state for key in ("num_bad_epochs", "patience", "mode_worse"))


def plateau_settings(scheduler_state: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a ReduceLROnPlateau, by the names of `train.config.PlateauConfig`.

    Raises:
      ConversionError: values that are absent, of another type or out of bounds.
    """
    state = Fields(scheduler_state, _WHERE)
    return {
        "mode": state.get("mode", Literal["min", "max"]),
        "factor": state.get("factor", Positive),
        "patience_epochs": state.get("patience", CountOrZero),
        "threshold": state.get("threshold", float),
        "threshold_mode": state.get("threshold_mode", Literal["rel", "abs"]),
        "cooldown_epochs": state.get("cooldown", CountOrZero),
        "eps": state.get("eps", NonNegative),
    }


def lowest_rate(scheduler_state: Mapping[str, Any]) -> float:
    """`min_lr` of a ReduceLROnPlateau."""
    return Fields(scheduler_state, _WHERE).first("min_lrs", NonNegative)


def plateau_from_torch(scheduler_state: Mapping[str, Any], start: PlateauState) -> PlateauState:
    """The state of our plateau that continues a ReduceLROnPlateau.

    Args:
      scheduler_state: its state.
      start: of ours, at the run's first step.

    Raises:
      ConversionError: values that are absent, of another type or out of bounds.
    """
    state = Fields(scheduler_state, _WHERE)
    return dataclasses.replace(
        start,
        learning_rate=jnp.float32(state.first("_last_lr", NonNegative)),
        best=jnp.float32(state.get("best", float, infinite=True)),
        num_bad_epochs=jnp.int32(state.get("num_bad_epochs", CountOrZero)),
        cooldown_counter=jnp.int32(state.get("cooldown_counter", CountOrZero)),
    )


def plateau_to_torch(
    plateau: ReduceLROnPlateau, state: PlateauState, *, epoch: int
) -> dict[str, Any]:
    """The attributes that torch's `ReduceLROnPlateau.load_state_dict` takes after `epoch`."""
    return {
        "factor": plateau.factor,
        "default_min_lr": plateau.min_lr,
        "min_lrs": [plateau.min_lr],
        "patience": plateau.patience,
        "cooldown": plateau.cooldown,
        "eps": plateau.eps,
        "last_epoch": epoch,
        "_last_lr": [decimal(state.learning_rate)],
        "mode_worse": math.inf if plateau.mode == "min" else -math.inf,
        "mode": plateau.mode,
        "threshold": plateau.threshold,
        "threshold_mode": plateau.threshold_mode,
        "best": decimal(state.best),
        "cooldown_counter": int(state.cooldown_counter),
        "num_bad_epochs": int(state.num_bad_epochs),
    }


@dataclasses.dataclass(frozen=True)
class EpochSchedule:
    """A learning rate that moves between epochs: a cosine or steps, after a warm-up or not.

    Attributes:
      kind: "cosine" or "step".
      warmup_epochs: 0 for none.
      warmup_rate: of the first epoch.
      peak: the rate that the cosine or the steps begin with.
      period_epochs: of the cosine, or between steps.
      end: the cosine's lowest rate, or the steps' factor.
    """

    kind: Literal["cosine", "step"]
    warmup_epochs: int
    warmup_rate: float
    peak: float
    period_epochs: int
    end: float

    @classmethod
    def from_torch(
        cls, scheduler_state: Mapping[str, Any], *, warmup_rate: float = 0.0
    ) -> "EpochSchedule":
        """From the state of a CosineAnnealingLR, a StepLR, or a SequentialLR that ends in one.

        Raises:
          ConversionError: values that are absent, of another type or out of bounds.
        """
        own = Fields(scheduler_state, _WHERE)
        warmup = own.first("_milestones", CountOrZero) if "_milestones" in own else 0
        after = own
        if warmup:
            inner = own.get("_schedulers", list)
            after = Fields(inner[-1:] and inner[-1], "the scheduler after the warm-up")
        own.first("_last_lr", NonNegative)
        own.get("last_epoch", CountOrZero)
        is_cosine = "T_max" in after
        return cls(
            kind="cosine" if is_cosine else "step",
            warmup_epochs=warmup,
            warmup_rate=warmup_rate,
            peak=after.first("base_lrs", NonNegative),
            period_epochs=after.get("T_max" if is_cosine else "step_size", Count),
            end=after.get("eta_min" if is_cosine else "gamma", NonNegative),
        )

    @classmethod
    def of(cls, schedule: Schedule) -> "EpochSchedule | None":
        """From a learning rate of ours; None if it changes in another way."""
        if schedule.kind is not schedules.every:
            return None
        after, warmup, first = schedule.numbers["schedule"], 0, 0.0
        if after.kind is schedules.join:
            warmup = int(after.numbers["boundaries"][0])
            rise, after = after.numbers["schedules"]
            first = decimal(rise.numbers["start"]) if rise.kind is schedules.linear else 0.0
        if after.kind not in (schedules.cosine, schedules.step_decay):
            return None
        is_cosine = after.kind is schedules.cosine
        peak, period, end = (
            ("peak", "steps", "end") if is_cosine else ("start", "step_size", "gamma")
        )
        return cls(
            kind="cosine" if is_cosine else "step",
            warmup_epochs=warmup,
            warmup_rate=first,
            peak=decimal(after.numbers[peak]),
            period_epochs=int(after.numbers[period]),
            end=decimal(after.numbers[end]),
        )

    @property
    def text(self) -> str:
        """`optim.schedule` of a config."""
        after = f"step_decay(rate, step_size={self.period_epochs}, gamma={self.end!r})"
        if self.kind == "cosine":
            after = f"cosine(rate, steps={self.period_epochs}, end={self.end!r})"
        if self.warmup_epochs:
            rise = f"linear({self.warmup_rate!r}, rate, steps={self.warmup_epochs})"
            after = f"join(({rise}, {after}), ({self.warmup_epochs},))"
        return f"every({after}, epoch)"

    def to_torch(self, *, epoch: int, learning_rate: float) -> dict[str, Any]:
        """The attributes of torch's scheduler after `epoch` epochs, as SequentialLR leaves them
        where there is a warm-up; `learning_rate` is that of the next epoch.
        """
        warmup = self.warmup_epochs

        def counter(last_epoch: int, last_rate: float) -> dict[str, Any]:
            return {
                "base_lrs": [self.peak],
                "last_epoch": last_epoch,
                "_step_count": last_epoch + 1,
                "_is_initial": False,
                "_get_lr_called_within_step": False,
                "_last_lr": [last_rate],
            }

        names = ("T_max", "eta_min") if self.kind == "cosine" else ("step_size", "gamma")
        settings = dict(zip(names, (self.period_epochs, self.end), strict=True))
        if not warmup:
            return settings | counter(epoch, learning_rate)
        risen = min(epoch, warmup - 1)
        rate = self.warmup_rate + (self.peak - self.warmup_rate) * risen / warmup
        later = counter(max(0, epoch - warmup), learning_rate if epoch >= warmup else self.peak)
        return {
            "_milestones": [warmup],
            "last_epoch": epoch,
            "_last_lr": [learning_rate],
            "_schedulers": [counter(risen, rate) | {"lr_lambdas": [None]}, settings | later],
        }
