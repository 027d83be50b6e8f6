"""Files of the original OCEC program and of its fork, without PyTorch: weights, and runs as runs of
ours, both ways.
"""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipes.convert.file_fields import Fields, naming
from jaxrecipes.convert.reader import load_torch
from jaxrecipes.convert.rules import (
    dump_tensors,
    load_tensors,
    load_variables,
    parameter_rules,
    unwrapped,
)
from jaxrecipes.convert.torch_optim import adam_from_torch, adam_rates
from jaxrecipes.convert.torch_schedulers import is_plateau
from jaxrecipes.ema import ema_init
from jaxrecipes.fields import Count, CountOrZero, NonNegative, Positive, Seed
from jaxrecipes.recipes.ocec.config import EyeDataConfig, OcecRunConfig
from jaxrecipes.recipes.ocec.network import Ocec, OcecConfig
from jaxrecipes.recipes.ocec.original_rules import ocec_rules
from jaxrecipes.recipes.ocec.recipe import make_recipe
from jaxrecipes.runs.torch_runs import (
    host,
    imported_run,
    is_averaged,
    last_entry,
    optimizer_of,
    save_run,
    scheduler_config,
    scheduler_of,
    settings_of,
    write_torch,
)
from jaxrecipes.runs.trained import Trained, Weights
from jaxrecipes.train.config import EmaConfig, OptimConfig, PlateauConfig

_MOST_BLOCKS = 256
_MOST_CHANNELS = 2**20  # the largest that is published has 256
_EMA_KEYS = ("ema_state", "ema_state_dict", "ema", "model_ema")


def from_torch(
    state_dict: Mapping[str, np.ndarray], config: Mapping[str, Any] | OcecConfig
) -> tuple[Ocec, dict[str, Any], dict[str, Any]]:
    """(model, params, batch_stats) of a state dict of the original; see `jaxrecipes.convert`."""
    config = _network_config(config)
    rules, tensors = ocec_rules(config), _unwrapped(state_dict)
    return Ocec(config), *load_variables(rules, tensors, _template(config))


def to_torch(
    params: Mapping[str, Any],
    batch_stats: Mapping[str, Any],
    config: Mapping[str, Any] | OcecConfig,
) -> dict[str, np.ndarray]:
    """The original's state dict, its keys in its order; see `jaxrecipes.convert`."""
    variables = {"params": params, "batch_stats": batch_stats}
    return dump_tensors(ocec_rules(_network_config(config)), variables)


def import_torch(source: pathlib.Path, workdir: pathlib.Path, *, use_torch: bool = False) -> None:
    """Turns a checkpoint of the original, or of its fork, into a run's folder.

    The folder can be evaluated, predicted with, exported, and trained further (`train.py
    --allow_config_change`). A scheduler that is no plateau, such as the fork's warm-up, is left
    out: the rate stays constant.

    Args:
      source: the `.pt` file.
      workdir: the folder to make.
      use_torch: let PyTorch read a file that the library's own safe reader cannot.

    Raises:
      ValueError: not such a file, one of a network with a margin head, tensors that do not fit
        (`ConversionError`, which names the first of each kind), or a folder that holds a run
        already.
    """
    loaded = load_torch(source, use_torch=use_torch)
    with naming(source):
        fields = Fields(loaded, "the file's content")
        if "model_config" not in fields:
            raise ValueError(
                "it has no model_config, which says the architecture; weights alone are read by "
                "jaxrecipes.convert.from_torch('ocec', state_dict, config)"
            )
        network = OcecConfig.from_dict(fields.get("model_config", dict[str, Any]))
        _check_size(network)
        _, params, batch_stats = from_torch(_state_dict(loaded), network)
        averages = _averages(loaded, network)
        optimizer = fields.get("optimizer_state", dict[str, Any], {})
        adam = adam_from_torch(optimizer, parameter_rules(ocec_rules(network)), params)
        epoch = fields.get("epoch", CountOrZero, 0)
        scheduler = fields.get("scheduler_state", dict[str, Any], {})
        train, val = _metrics(fields, "train_metrics"), _metrics(fields, "val_metrics")
        with settings_of(source, OcecRunConfig):
            config = _config(fields, network, epoch, optimizer, scheduler, averages is not None)
        run = imported_run(
            source,
            config,
            make_recipe,
            params,
            batch_stats,
            epoch=epoch,
            adam=adam,
            scheduler=scheduler,
        )
    if averages is not None:
        ema_params, ema_batch_stats = jax.tree.map(jnp.asarray, averages)
        run = run.with_state(
            ema_params=ema_init(ema_params),
            ema_batch_stats=ema_init(ema_batch_stats or run.state.batch_stats),
        )
    suffix = "_ema" if config.ema.enabled else ""
    val = {f"{name}{suffix}": value for name, value in val.items()}
    save_run(workdir, run, history=[run.entry(train, val)], score=val.get(f"f1{suffix}"))


def export_torch(trained: Trained, target: pathlib.Path, *, weights: Weights = "auto") -> None:
    """Writes a `.pt` file that the original loads with strict key checking.

    Args:
      trained: the checkpoint.
      target: the file to write.
      weights: what becomes `model_state`. raw: the file can be resumed (averages go under
        `ema_state`, which the original ignores). ema: the averaged weights, to predict with,
        without optimizer. auto: ema where there is one.
    """
    config, state, entry = trained.config, trained.state, last_entry(trained)
    params, batch_stats = host(trained.weights(weights))
    rules, averaged = parameter_rules(ocec_rules(config.model)), is_averaged(trained, weights)
    value: dict[str, Any] = {
        "model_config": dataclasses.asdict(config.model),
        "train_config": {
            "data_root": config.data.path,
            "epochs": config.epochs,
            "batch_size": config.data.batch_size,
            "lr": config.optim.learning_rate,
            "weight_decay": config.optim.weight_decay,
            "seed": config.seed,
        },
        "normalization": {
            "mean": list(config.data.mean),
            "std": list(config.data.std),
            "image_size": list(config.data.image_size),
        },
        "label_map": {0: "closed", 1: "open"},
        "amp_enabled": False,
        "tensorboard_logdir": None,
        "epoch": entry["epoch"],
        "model_state": to_torch(params, batch_stats, config.model),
        "optimizer_state": None if averaged else optimizer_of(trained, rules),
        "scheduler_state": None if averaged else _plateau(scheduler_of(trained, entry["epoch"])),
        "scaler_state": None,
        "train_metrics": entry["train"],
        "val_metrics": entry["val"] or None,
    }
    if trained.recipe.ema and not averaged:
        value["ema_state"] = dump_tensors(rules, host(state.ema_params))
    write_torch(trained, target, value, weights=weights)


def _config(
    fields: Fields,
    network: OcecConfig,
    epoch: int,
    optimizer: Mapping[str, Any],
    scheduler: Mapping[str, Any],
    averaged: bool,
) -> OcecRunConfig:
    """The run config that goes on as the original would."""
    args, size = fields.inner("train_config"), fields.inner("normalization")
    rates: dict[str, Any] = {"learning_rate": 1e-4, "weight_decay": 1e-4}
    rates |= adam_rates(optimizer)
    rates["learning_rate"] = args.get("lr", NonNegative, rates["learning_rate"])
    rates["weight_decay"] = args.get("weight_decay", NonNegative, rates["weight_decay"])
    schedule: dict[str, Any] = {"schedule": "constant", "min_learning_rate": 0.0}
    plateau = PlateauConfig()
    if is_plateau(scheduler):
        schedule, plateau = scheduler_config(scheduler)
    return OcecRunConfig(
        seed=args.get("seed", Seed, 42),
        epochs=max(1, args.get("epochs", CountOrZero, epoch)),
        optim=OptimConfig(**rates, **schedule),
        plateau=plateau,
        ema=EmaConfig(enabled=averaged, decay=0.999, warmup=False, average_batch_stats=False),
        model=network,
        data=EyeDataConfig(
            # What the original assumes where a file does not say it.
            image_size=size.get("image_size", tuple[Count, Count], (112, 112)),
            batch_size=args.get("batch_size", Count, 32),
            mean=size.get("mean", tuple[float, float, float], (0.0, 0.0, 0.0)),
            std=size.get("std", tuple[Positive, Positive, Positive], (1.0, 1.0, 1.0)),
        ),
    )


def _plateau(scheduler: dict[str, Any] | None) -> dict[str, Any] | None:
    """A scheduler's state, if the original has such a one."""
    return scheduler if scheduler and is_plateau(scheduler) else None


def _network_config(config: Mapping[str, Any] | OcecConfig) -> OcecConfig:
    return config if isinstance(config, OcecConfig) else OcecConfig.from_dict(config)


@functools.cache
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


def _metrics(fields: Fields, key: str) -> dict[str, float]:
    """The finite numbers among the metrics of an epoch."""
    return {
        name: float(value)
        for name, value in fields.get(key, dict[str, Any], {}).items()
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
    raise ValueError(f"it has no model_state: {[str(key)[:40] for key in loaded][:8]}")


def _averages(loaded: Mapping[str, Any], config: OcecConfig) -> tuple[Any, Any] | None:
    """(params, batch_stats) of the averaged weights, if the file has them; without statistics among
    them the last are empty.
    """
    state = next((loaded[key] for key in _EMA_KEYS if loaded.get(key)), None)
    if state is None:
        return None
    for inner in ("shadow", "module", "model_state", "state_dict"):
        if isinstance(state, Mapping):
            state = state.get(inner, state)
    state = _unwrapped(state)
    if any(key.endswith("running_mean") for key in state):
        return from_torch(state, config)[1:]
    rules = parameter_rules(ocec_rules(config))
    return load_tensors(rules, state, _template(config)["params"]), {}
