"""Universal face checkpoints of the original program, read and written without PyTorch."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrecipes.convert.file_fields import Fields, given, naming
from jaxrecipes.convert.reader import load_torch
from jaxrecipes.convert.rules import Rule, parameter_rules, unwrapped
from jaxrecipes.convert.torch_optim import (
    AdamState,
    PlateauNumbers,
    adam_from_torch,
    adam_to_torch,
    plateau_from_torch,
    plateau_to_torch,
)
from jaxrecipes.convert.writer import save_torch
from jaxrecipes.fields import Count, CountOrZero, NonNegative
from jaxrecipes.recipes.faces.original_files import not_the_programs
from jaxrecipes.recipes.faces.pose_text_weights import numbered
from jaxrecipes.recipes.universal_face.network import UniversalFaceConfig
from jaxrecipes.recipes.universal_face.original_rules import LOSS_RULES, universal_face_rules
from jaxrecipes.recipes.universal_face.original_weights import (
    from_torch,
    loss_to_torch,
    network_config,
    template,
    to_torch,
)

_LOSS_STATE = "criterion_state_dict"  # the key that the original's diagnostics look for
_LOSS_OPTIMIZER = "criterion_optimizer_state_dict"  # ours; the original's optimizer has no place

_MOST_LAYERS = 256
_PROJECTIONS = tuple(rule.source for rule in LOSS_RULES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepDecay:
    """A torch StepLR: the scheduler of runs before the plateau."""

    step_size: int
    gamma: float
    learning_rate: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniversalFaceCheckpoint:
    """What an original checkpoint holds, in our terms.

    Attributes:
      config: the architecture.
      params: parameters with the loss projections, nested dict of float32 arrays.
      batch_stats: the pose prototypes.
      optimizer: AdamW's moments of the network's parameters, and its hyperparameters; None before
        the first update.
      projection_optimizer: the same of `loss_projections/id_to_feat`; no original has it.
      scheduler: the plateau, or the step decay of old runs; None if there is neither.
      epoch: epochs done.
      best_val_loss: of the epoch with the best cosine; None if there is none yet.
      best_val_cosine: best validation cosine so far; None if there is none yet.
      args: the original's flags.
      projections_drawn: the file has no loss projections, and those of `params` are a new draw, so
        that the metrics and the scheduler's best do not belong to them.
    """

    config: UniversalFaceConfig
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    optimizer: AdamState | None = None
    projection_optimizer: AdamState | None = None
    scheduler: PlateauNumbers | StepDecay | None = None
    epoch: int = 0
    best_val_loss: float | None = None
    best_val_cosine: float | None = None
    args: dict[str, Any] = dataclasses.field(default_factory=dict)
    projections_drawn: bool = False


def read_checkpoint(
    path: str | os.PathLike[str], *, use_torch: bool = False
) -> UniversalFaceCheckpoint:
    """Reads a `.pth` file of the original.

    Args:
      path: the file.
      use_torch: see `load_torch`.

    Raises:
      ValueError: not such a file, or tensors that do not fit (`ConversionError`, which names the
        first of each kind).
    """
    loaded = load_torch(path, use_torch=use_torch)
    if not isinstance(loaded, dict) or not {"model_state_dict", "args"} <= loaded.keys():
        raise not_the_programs(path, loaded, "universal face")
    with naming(path):
        return _checkpoint(Fields(loaded, "the file's content"), loaded)


def _checkpoint(fields: Fields, loaded: Mapping[str, Any]) -> UniversalFaceCheckpoint:
    args = dict(fields.get("args", dict[str, Any]))
    own = unwrapped(loaded["model_state_dict"])
    state_dict = own | unwrapped(loaded.get(_LOSS_STATE) or {})
    config = network_config(args, state_dict)
    if config.transformer_depth > _MOST_LAYERS:
        raise ValueError(f"args 'transformer_depth' is {config.transformer_depth}")
    _, params, batch_stats = from_torch(state_dict, config)
    shapes = template(config)["params"]
    network = {name: branch for name, branch in shapes.items() if name != "loss_projections"}
    projections = {"loss_projections": {"id_to_feat": shapes["loss_projections"]["id_to_feat"]}}
    return UniversalFaceCheckpoint(
        config=config,
        params=params,
        batch_stats=batch_stats,
        optimizer=_adam(
            numbered(loaded.get("optimizer_state_dict"), own), _network_rules(config), network
        ),
        projection_optimizer=_adam(loaded.get(_LOSS_OPTIMIZER), _projection_rules(), projections),
        scheduler=_scheduler(fields.get("scheduler_state_dict", dict[str, Any], {})),
        epoch=fields.get("epoch", CountOrZero, 0),
        best_val_loss=_finite(fields.get("best_val_loss", float, None, infinite=True)),
        best_val_cosine=_finite(fields.get("best_val_cosine", float, None, infinite=True)),
        args=args,
        projections_drawn=not any(key.endswith(_PROJECTIONS) for key in state_dict),
    )


def write_checkpoint(path: str | os.PathLike[str], checkpoint: UniversalFaceCheckpoint) -> None:
    """Writes a file that the original loads, with strict key checking, and resumes from.

    The loss projections go under "criterion_state_dict" and their moments under a key of our own;
    the original's training reads neither. Without an optimizer the file cannot be resumed.
    """
    config, scheduler = checkpoint.config, checkpoint.scheduler
    adam, projection_adam = checkpoint.optimizer, checkpoint.projection_optimizer
    cosine, loss = checkpoint.best_val_cosine, checkpoint.best_val_loss
    value: dict[str, Any] = {
        "epoch": checkpoint.epoch,
        "model_state_dict": to_torch(checkpoint.params, checkpoint.batch_stats, config),
        "optimizer_state_dict": adam and adam_to_torch(adam, _network_rules(config)),
        "scheduler_state_dict": _dumped(scheduler, checkpoint),
        # What the original starts from where there is no best yet.
        "best_val_loss": float("inf") if loss is None else loss,
        "best_val_cosine": 0.0 if cosine is None else cosine,
        "args": checkpoint.args | config.original_flags(),
        _LOSS_STATE: loss_to_torch(checkpoint.params),
    }
    if projection_adam is not None:
        value[_LOSS_OPTIMIZER] = adam_to_torch(projection_adam, _projection_rules())
    save_torch(path, value)


def _network_rules(config: UniversalFaceConfig) -> list[Rule]:
    return parameter_rules(universal_face_rules(config))


def _projection_rules() -> list[Rule]:
    """Of the projection that trains; the other one is not used."""
    return parameter_rules(LOSS_RULES[:1])


def _adam(
    state: Mapping[str, Any] | None, rules: list[Rule], shapes: Mapping[str, Any]
) -> AdamState | None:
    return adam_from_torch(state, rules, shapes) if given(state) else None


def _scheduler(state: Mapping[str, Any]) -> PlateauNumbers | StepDecay | None:
    own = Fields(state, "the scheduler's state")
    if "step_size" not in own:
        return plateau_from_torch(state)
    return StepDecay(
        step_size=own.get("step_size", Count),
        gamma=own.get("gamma", NonNegative),
        learning_rate=own.first("base_lrs", NonNegative),
    )


def _dumped(
    scheduler: PlateauNumbers | StepDecay | None, checkpoint: UniversalFaceCheckpoint
) -> dict[str, Any] | None:
    """The scheduler's state dict, as torch writes it."""
    if isinstance(scheduler, PlateauNumbers):
        return plateau_to_torch(scheduler)
    if scheduler is None:
        return None
    epoch = checkpoint.epoch
    rate = scheduler.learning_rate * scheduler.gamma ** (epoch // scheduler.step_size)
    return {
        "step_size": scheduler.step_size,
        "gamma": scheduler.gamma,
        "base_lrs": [scheduler.learning_rate],
        "last_epoch": epoch,
        "_step_count": epoch + 1,
        "_get_lr_called_within_step": False,
        "_last_lr": [rate],
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None
