"""OCEC checkpoints of the original program and its fork, read and written without PyTorch."""

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from jaxrecipes.convert.file_fields import Fields, given, naming
from jaxrecipes.convert.reader import load_torch
from jaxrecipes.convert.rules import (
    Rule,
    dump_tensors,
    load_tensors,
    parameter_rules,
    unwrapped,
)
from jaxrecipes.convert.torch_optim import (
    AdamState,
    PlateauNumbers,
    adam_from_torch,
    adam_to_torch,
    plateau_from_torch,
    plateau_to_torch,
)
from jaxrecipes.convert.writer import save_torch
from jaxrecipes.fields import Count, CountOrZero, Positive
from jaxrecipes.recipes.ocec.network import Ocec, OcecConfig
from jaxrecipes.recipes.ocec.original_rules import ocec_rules

_BEST_KEYS = ("best_val_loss", "best_epoch", "best_accuracy", "best_f1")
_MOST_BLOCKS = 256
_MOST_CHANNELS = 2**20  # the largest that is published has 256
_EMA_KEYS = ("ema_state", "ema_state_dict", "ema", "model_ema")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OcecCheckpoint:
    """What an original checkpoint holds, in our terms.

    Attributes:
      config: the architecture.
      params: parameters, nested dict of float32 arrays.
      batch_stats: running statistics; empty for a network without BatchNorm.
      ema_params: averaged parameters, if the file has them.
      ema_batch_stats: averaged or copied statistics, if they are among them.
      optimizer: AdamW's moments and hyperparameters; None before the first update.
      plateau: the scheduler; None if it is of another kind (the fork's warm-up).
      epoch: epochs done.
      image_size: (height, width) in pixels.
      mean: of the normalisation, per channel.
      std: of the normalisation, per channel.
      train_metrics: of the last epoch.
      val_metrics: of the last epoch; None without a validation split.
      best: best_val_loss, best_epoch, best_accuracy, best_f1; empty in files of an ordinary epoch.
      train_config: the original's training arguments.
    """

    config: OcecConfig
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    ema_params: dict[str, Any] | None = None
    ema_batch_stats: dict[str, Any] | None = None
    optimizer: AdamState | None = None
    plateau: PlateauNumbers | None = None
    epoch: int = 0
    image_size: tuple[int, int] = (112, 112)  # what the original assumes where a file has none
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    train_metrics: dict[str, float] | None = None
    val_metrics: dict[str, float] | None = None
    best: dict[str, float] = dataclasses.field(default_factory=dict)
    train_config: dict[str, Any] = dataclasses.field(default_factory=dict)


def from_torch(
    state_dict: Mapping[str, np.ndarray], config: Mapping[str, Any] | OcecConfig
) -> tuple[Ocec, dict[str, Any], dict[str, Any]]:
    """(model, params, batch_stats) of a state dict of the original; see `jaxrecipes.convert`."""
    config = _config(config)
    variables = load_tensors(ocec_rules(config), _unwrapped(state_dict), _template(config))
    return Ocec(config), variables["params"], variables.get("batch_stats", {})


def to_torch(
    params: Mapping[str, Any],
    batch_stats: Mapping[str, Any],
    config: Mapping[str, Any] | OcecConfig,
) -> dict[str, np.ndarray]:
    """The original's state dict, its keys in its order; see `jaxrecipes.convert`."""
    return dump_tensors(ocec_rules(_config(config)), _variables(params, batch_stats))


def read_checkpoint(
    path: str | os.PathLike[str], *, config: OcecConfig | None = None, use_torch: bool = False
) -> OcecCheckpoint:
    """Reads a `.pt` file of the original or of its fork, or a bare state dict.

    Args:
      path: the file.
      config: the architecture, for a file that does not say it.
      use_torch: see `load_torch`.

    Raises:
      ValueError: not such a file, one of a network with a margin head, or tensors that do not fit
        (`ConversionError`, which names the first of each kind).
    """
    loaded = load_torch(path, use_torch=use_torch)
    with naming(path):
        return _checkpoint(loaded, config)


def _checkpoint(loaded: Any, config: OcecConfig | None) -> OcecCheckpoint:
    fields = Fields(loaded, "the file's content")
    if "model_config" in fields:
        config = OcecConfig.from_dict(fields.get("model_config", dict[str, Any]))
    if config is None:
        raise ValueError("it has no model_config: pass the architecture as `config`")
    _check_size(config)
    _, params, batch_stats = from_torch(_state_dict(loaded), config)
    ema_params, ema_batch_stats = _averages(loaded, config)
    normalization = fields.inner("normalization")
    height, width = normalization.get("image_size", tuple[Count, Count], (112, 112))
    optimizer = loaded.get("optimizer_state")
    return OcecCheckpoint(
        config=config,
        params=params,
        batch_stats=batch_stats,
        ema_params=ema_params,
        ema_batch_stats=ema_batch_stats,
        optimizer=adam_from_torch(optimizer, _param_rules(config), _template(config)["params"])
        if given(optimizer)
        else None,
        plateau=plateau_from_torch(fields.get("scheduler_state", dict[str, Any], {})),
        epoch=fields.get("epoch", CountOrZero, 0),
        image_size=(height, width),
        mean=normalization.get("mean", tuple[float, float, float], (0.0, 0.0, 0.0)),
        std=normalization.get("std", tuple[Positive, Positive, Positive], (1.0, 1.0, 1.0)),
        train_metrics=_metrics(fields, "train_metrics"),
        val_metrics=_metrics(fields, "val_metrics"),
        best={key: fields.get(key, float, infinite=True) for key in _BEST_KEYS if key in fields},
        train_config=dict(fields.get("train_config", dict[str, Any], {})),
    )


def write_checkpoint(path: str | os.PathLike[str], checkpoint: OcecCheckpoint) -> None:
    """Writes a file that the original loads, with strict key checking, and resumes from.

    Averaged parameters go under "ema_state", which the original ignores. Without an optimizer or a
    plateau their entries are null: such a file can be loaded and evaluated but not resumed.
    """
    config = checkpoint.config
    value: dict[str, Any] = {
        "model_config": dataclasses.asdict(config),
        "train_config": checkpoint.train_config,
        "normalization": {
            "mean": list(checkpoint.mean),
            "std": list(checkpoint.std),
            "image_size": list(checkpoint.image_size),
        },
        "label_map": {0: "closed", 1: "open"},
        "amp_enabled": False,
        "tensorboard_logdir": checkpoint.train_config.get("output_dir"),
        "epoch": checkpoint.epoch,
        "model_state": to_torch(checkpoint.params, checkpoint.batch_stats, config),
        "optimizer_state": checkpoint.optimizer
        and adam_to_torch(checkpoint.optimizer, _param_rules(config)),
        "scheduler_state": checkpoint.plateau and plateau_to_torch(checkpoint.plateau),
        "scaler_state": None,
        "train_metrics": checkpoint.train_metrics,
        "val_metrics": checkpoint.val_metrics,
        **checkpoint.best,
    }
    if checkpoint.ema_params is not None:
        value["ema_state"] = (
            to_torch(checkpoint.ema_params, checkpoint.ema_batch_stats, config)
            if checkpoint.ema_batch_stats
            else dump_tensors(_param_rules(config), checkpoint.ema_params)
        )
    save_torch(path, value)


def _config(config: Mapping[str, Any] | OcecConfig) -> OcecConfig:
    return config if isinstance(config, OcecConfig) else OcecConfig.from_dict(config)


def _param_rules(config: OcecConfig) -> list[Rule]:
    return parameter_rules(ocec_rules(config))


def _variables(params: Mapping[str, Any], batch_stats: Mapping[str, Any]) -> dict[str, Any]:
    return {"params": params} | ({"batch_stats": batch_stats} if batch_stats else {})


def _template(config: OcecConfig) -> dict[str, Any]:
    """Shapes and dtypes of the variables, from an image that leaves one pixel per token."""
    shrink = (4 if config.arch_variant == "convnext" else 2) * math.prod(config.strides)
    rows, cols = config.token_mixer_grid
    images = jax.ShapeDtypeStruct((1, rows * shrink, cols * shrink, 3), jnp.float32)
    return jax.eval_shape(
        lambda key, images: Ocec(config).init(key, images, train=False), jax.random.key(0), images
    )


def _unwrapped(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The state dict without the prefixes of wrappers around the network."""
    state_dict = unwrapped(state_dict)
    margin = [key for key in state_dict if key.startswith(("arc_head", "margin_head"))]
    if margin:
        raise ValueError(
            f"this checkpoint has a margin head of a later fork ({', '.join(margin)}), which is "
            "not the OCEC network; only plain OCEC checkpoints can be converted"
        )
    return state_dict


def _metrics(fields: Fields, key: str) -> dict[str, float] | None:
    """The finite numbers among the metrics of an epoch."""
    metrics = fields.get(key, dict[str, Any], None)
    return metrics and {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def _check_size(config: OcecConfig) -> None:
    """Raises for a network that no file can hold, before its rules are made."""
    blocks = max(config.num_blocks, config.token_mixer_layers)
    if blocks > _MOST_BLOCKS or config.channels[-1] * config.expansion > _MOST_CHANNELS:
        raise ValueError(
            f"a network of {config.num_blocks} blocks, {config.token_mixer_layers} mixer layers "
            f"and {config.base_channels} channels to begin with cannot be in a file"
        )


def _state_dict(loaded: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in ("model_state", "model_state_dict", "state_dict"):
        if key in loaded:
            return loaded[key]
    if loaded and all(isinstance(value, np.ndarray) for value in loaded.values()):
        return loaded
    holds = [str(key)[:40] for key in loaded][:8]
    raise ValueError(f"it has neither a model_state nor is it a state dict: {holds}")


def _averages(loaded: Mapping[str, Any], config: OcecConfig):
    """(params, batch_stats) of the averaged weights, with or without statistics among them."""
    state = next((loaded[key] for key in _EMA_KEYS if loaded.get(key)), None)
    if state is None:
        return None, None
    for inner in ("shadow", "module", "model_state", "state_dict"):
        if isinstance(state, Mapping):
            state = state.get(inner, state)
    state = _unwrapped(state)
    template = _template(config)
    if any(key.endswith("running_mean") for key in state):
        variables = load_tensors(ocec_rules(config), state, template)
        return variables["params"], variables["batch_stats"]
    return load_tensors(_param_rules(config), state, template["params"]), None
