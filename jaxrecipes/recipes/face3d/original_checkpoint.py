"""face3d checkpoints of the original program, read and written without PyTorch."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from jaxrecipes.convert.file_fields import Fields, given, naming, taken
from jaxrecipes.convert.reader import load_torch
from jaxrecipes.convert.rules import unwrapped
from jaxrecipes.convert.torch_optim import (
    AdamState,
    PlateauNumbers,
    plateau_from_torch,
    plateau_to_torch,
)
from jaxrecipes.convert.writer import save_torch
from jaxrecipes.fields import Count, CountOrZero, NonNegative, Positive
from jaxrecipes.recipes.face3d.network_config import Face3DConfig
from jaxrecipes.recipes.face3d.original_weights import (
    adam_moments_from_torch,
    adam_moments_to_torch,
    from_torch,
    original_config,
    to_torch,
)
from jaxrecipes.recipes.faces.original_files import not_the_programs
from jaxrecipes.recipes.faces.pose_text_weights import numbered

_MOST_LAYERS = 256


@dataclasses.dataclass(frozen=True)
class EpochSchedule:
    """A scheduler that only counts: a cosine or steps, after a warm-up or not.

    Attributes:
      kind: "cosine" or "step".
      warmup_epochs: of a `SequentialLR` around it; 0 for none.
      warmup_learning_rate: that the first epoch runs at.
      base_learning_rate: the peak.
      period_epochs: of the cosine, or between steps.
      end: the cosine's lowest rate, or the steps' factor.
      learning_rate: the rate in force.
      last_epoch: epochs done.
    """

    kind: str
    warmup_epochs: int
    warmup_learning_rate: float
    base_learning_rate: float
    period_epochs: int
    end: float
    learning_rate: float
    last_epoch: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Face3DCheckpoint:
    """What an original checkpoint holds, in our terms.

    Attributes:
      config: the architecture.
      params: parameters, nested dict of float32 arrays.
      batch_stats: running statistics of the keypoint decoder; otherwise empty.
      optimizer: AdamW's moments and hyperparameters; None before the first update.
      scheduler: the plateau, or the numbers of one that only counts; None in the oldest files.
      scaler: `scale` and `growth_tracker` of mixed precision; None without it.
      stopping: best loss of early stopping, and epochs without improvement; None when it is off.
      epoch: epochs done; the file counts from 0, so its own number is one less.
      best_val_loss: of the epochs so far.
      train_losses, val_losses, val_cosines: of each epoch; empty in the oldest files.
      args: the original's arguments.
    """

    config: Face3DConfig
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    optimizer: AdamState | None = None
    scheduler: PlateauNumbers | EpochSchedule | None = None
    scaler: dict[str, float] | None = None
    stopping: tuple[float, int] | None = None
    epoch: int = 0
    best_val_loss: float = float("inf")
    train_losses: list[float] = dataclasses.field(default_factory=list)
    val_losses: list[float] = dataclasses.field(default_factory=list)
    val_cosines: list[float] = dataclasses.field(default_factory=list)
    args: dict[str, Any] = dataclasses.field(default_factory=dict)


def read_checkpoint(path: str | os.PathLike[str], *, use_torch: bool = False) -> Face3DCheckpoint:
    """Reads a `.pth` file of the original, of any revision.

    Args:
      path: the file.
      use_torch: see `load_torch`.

    Raises:
      ValueError: not such a file, or tensors that do not fit (`ConversionError`, which names the
        first of each kind).
        The original catches such errors and trains on from epoch 0 with what was loaded so far.
    """
    loaded = load_torch(path, use_torch=use_torch)
    if not isinstance(loaded, dict) or not {"model_state_dict", "args"} <= loaded.keys():
        raise not_the_programs(path, loaded, "face3d")
    with naming(path):
        return _checkpoint(Fields(loaded, "the file's content"), loaded)


def _checkpoint(fields: Fields, loaded: Mapping[str, Any]) -> Face3DCheckpoint:
    args = dict(fields.get("args", dict[str, Any]))
    state_dict = unwrapped(loaded["model_state_dict"])
    config = original_config(args, state_dict)
    _check_size(config)
    _, params, batch_stats = from_torch(state_dict, config)
    scaler = fields.inner("scaler_state_dict")
    optimizer = numbered(loaded.get("optimizer_state_dict"), state_dict)
    best = fields.get("best_val_loss_for_early_stop", float, None, infinite=True)
    losses = {
        name: [taken(x, float, name, infinite=True) for x in fields.get(name, list, [])]
        for name in ("train_loss_history", "val_loss_history", "val_cosine_sim_history")
    }
    return Face3DCheckpoint(
        config=config,
        params=params,
        batch_stats=batch_stats,
        optimizer=adam_moments_from_torch(optimizer, config) if given(optimizer) else None,
        scheduler=_scheduler_from_torch(
            fields.get("scheduler_state_dict", dict[str, Any], {}), args
        ),
        scaler={
            "scale": scaler.get("scale", Positive),
            "growth_tracker": scaler.get("_growth_tracker", CountOrZero),
        }
        if given(loaded.get("scaler_state_dict"))
        else None,
        stopping=None
        if best is None
        else (best, fields.get("epochs_without_improvement", CountOrZero)),
        epoch=fields.get("epoch", CountOrZero) + 1,
        best_val_loss=fields.get("best_val_loss", float, float("inf"), infinite=True),
        train_losses=losses["train_loss_history"],
        val_losses=losses["val_loss_history"],
        val_cosines=losses["val_cosine_sim_history"],
        args=args,
    )


def _check_size(config: Face3DConfig) -> None:
    """Raises for a network that no file can hold, before its rules are made."""
    for name in dataclasses.asdict(config):
        if name.endswith("_layers") and getattr(config, name) > _MOST_LAYERS:
            raise ValueError(
                f"args {name!r} is {getattr(config, name)}; expected {_MOST_LAYERS} at most"
            )


def write_checkpoint(path: str | os.PathLike[str], checkpoint: Face3DCheckpoint) -> None:
    """Writes a file that the original loads, with strict key checking, and resumes from.

    Without an optimizer or a scheduler their entries are null: such a file can be loaded and
    evaluated but not resumed.
    """
    config, scheduler, adam = checkpoint.config, checkpoint.scheduler, checkpoint.optimizer
    optimizer = adam and adam_moments_to_torch(adam, config)
    if optimizer and isinstance(scheduler, EpochSchedule):
        # Schedulers of this kind leave the rate that they started from in the optimizer.
        group = optimizer["param_groups"][0]
        last = group.pop("params")
        group |= {"initial_lr": scheduler.base_learning_rate, "params": last}
    value: dict[str, Any] = {
        "epoch": checkpoint.epoch - 1,
        "model_state_dict": to_torch(checkpoint.params, checkpoint.batch_stats, config),
        "optimizer_state_dict": optimizer,
        "best_val_loss": checkpoint.best_val_loss,
        "args": checkpoint.args,
        "train_loss_history": checkpoint.train_losses,
        "val_loss_history": checkpoint.val_losses,
        "val_cosine_sim_history": checkpoint.val_cosines,
        "scheduler_state_dict": _scheduler_to_torch(scheduler),
    }
    if checkpoint.scaler is not None:
        value["scaler_state_dict"] = {
            "scale": checkpoint.scaler["scale"],
            "growth_factor": 2.0,
            "backoff_factor": 0.5,
            "growth_interval": 2000,
            "_growth_tracker": int(checkpoint.scaler["growth_tracker"]),
        }
    if checkpoint.stopping is not None:
        best, bad_epochs = checkpoint.stopping
        value |= {"best_val_loss_for_early_stop": best, "epochs_without_improvement": bad_epochs}
    save_torch(path, value)


def _scheduler_from_torch(
    state: Mapping[str, Any], args: Mapping[str, Any]
) -> PlateauNumbers | EpochSchedule | None:
    if not state:
        return None
    plateau = plateau_from_torch(state)
    if plateau is not None:
        return plateau
    own = Fields(state, "the scheduler's state")
    warmup = own.first("_milestones", CountOrZero) if "_milestones" in own else 0
    counting = own
    if warmup:
        schedulers = own.get("_schedulers", list)
        counting = Fields(schedulers[-1:] and schedulers[-1], "the scheduler after the warm-up")
    is_cosine = "T_max" in counting
    return EpochSchedule(
        kind="cosine" if is_cosine else "step",
        warmup_epochs=warmup,
        warmup_learning_rate=Fields(args, "args").get("warmup_lr", NonNegative, 0.0),
        base_learning_rate=counting.first("base_lrs", NonNegative),
        period_epochs=counting.get("T_max" if is_cosine else "step_size", Count),
        end=counting.get("eta_min" if is_cosine else "gamma", NonNegative),
        learning_rate=own.first("_last_lr", NonNegative),
        last_epoch=own.get("last_epoch", CountOrZero),
    )


def _scheduler_to_torch(scheduler: PlateauNumbers | EpochSchedule | None) -> dict[str, Any] | None:
    """The attributes that torch's schedulers take, as SequentialLR leaves them behind."""
    if scheduler is None:
        return None
    if isinstance(scheduler, PlateauNumbers):
        return plateau_to_torch(scheduler)
    warmup, epoch = scheduler.warmup_epochs, scheduler.last_epoch

    def counter(last_epoch: int, last_rate: float) -> dict[str, Any]:
        return {
            "base_lrs": [scheduler.base_learning_rate],
            "last_epoch": last_epoch,
            "_step_count": last_epoch + 1,
            "_is_initial": False,
            "_get_lr_called_within_step": False,
            "_last_lr": [last_rate],
        }

    names = ("T_max", "eta_min") if scheduler.kind == "cosine" else ("step_size", "gamma")
    settings = dict(zip(names, (scheduler.period_epochs, scheduler.end), strict=True))
    if not warmup:
        return settings | counter(epoch, scheduler.learning_rate)
    first, peak = scheduler.warmup_learning_rate, scheduler.base_learning_rate
    risen = min(epoch, warmup - 1)
    rate = first + (peak - first) * risen / warmup
    later = counter(max(0, epoch - warmup), scheduler.learning_rate if epoch >= warmup else peak)
    return {
        "_milestones": [warmup],
        "last_epoch": epoch,
        "_last_lr": [scheduler.learning_rate],
        "_schedulers": [counter(risen, rate) | {"lr_lambdas": [None]}, settings | later],
    }
