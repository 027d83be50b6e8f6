"""Files of the original face3d program, without PyTorch: its weights, and its runs as runs of ours,
both ways.
"""

import dataclasses
import logging
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxrecipes.convert.file_fields import Fields, naming, taken
from jaxrecipes.convert.reader import load_torch
from jaxrecipes.convert.rules import dump_tensors, load_variables, parameter_rules, unwrapped
from jaxrecipes.convert.torch_optim import adam_from_torch, adam_rates, decimal
from jaxrecipes.convert.torch_schedulers import EpochSchedule
from jaxrecipes.fields import Count, CountOrZero, NonNegative, Positive
from jaxrecipes.plateau import EarlyStoppingState
from jaxrecipes.precision import LossScaleState
from jaxrecipes.recipes.face3d.config import Face3DRunConfig, LossConfig
from jaxrecipes.recipes.face3d.network import face3d, face3d_shapes
from jaxrecipes.recipes.face3d.network_config import Face3DConfig
from jaxrecipes.recipes.face3d.original_rules import face3d_rules
from jaxrecipes.recipes.face3d.recipe import make_recipe
from jaxrecipes.recipes.faces.data import FaceDataConfig
from jaxrecipes.recipes.faces.original_files import (
    WITHOUT_CLIP,
    check_program,
    numbered,
    tabulated,
    with_text_width,
)
from jaxrecipes.recipes.faces.pose_text_source import FROM_CHECKPOINT
from jaxrecipes.runs.torch_runs import (
    ImportedRun,
    history_entry,
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
from jaxrecipes.train.config import EarlyStoppingConfig, OptimConfig, PlateauConfig

_log = logging.getLogger("jaxrecipes")

_HISTORIES = ("train_loss_history", "val_loss_history", "val_cosine_sim_history")
_NOT_ARGUMENTS = (
    "feat_dim",
    "pose_text_dim",
    "use_keypoints",
    "use_angle_pe",
    "use_angle_conditioning",
)
"""Fields of our network's config that are no arguments of the original's program."""


def from_torch(
    state_dict: Mapping[str, np.ndarray], config: Mapping[str, Any] | Face3DConfig
) -> tuple[nn.Module, dict[str, Any], dict[str, Any]]:
    """(model, params, batch_stats) of a state dict of the original; see `jaxrecipes.convert`.

    Of the original's arguments, those that describe the network count; whether it is the keypoint
    decoder is read off the weights. A copy of CLIP becomes a table, see
    `jaxrecipes.recipes.faces.original_files`.
    """
    state_dict = tabulated(unwrapped(state_dict))
    config = _original_config(config, state_dict)
    variables = load_variables(face3d_rules(config), state_dict, face3d_shapes(config))
    return face3d(config), *variables


def to_torch(
    params: Mapping[str, Any],
    batch_stats: Mapping[str, Any],
    config: Mapping[str, Any] | Face3DConfig,
) -> dict[str, np.ndarray]:
    """The original's state dict, its keys in its order; see `jaxrecipes.convert`."""
    variables = {"params": params, "batch_stats": batch_stats}
    return dump_tensors(face3d_rules(network_config(config, params)), variables)


def network_config(config: Mapping[str, Any] | Face3DConfig, names: Iterable[str]) -> Face3DConfig:
    """The config of a network whose parameters start with `names`, on either side.

    The names decide where the original's arguments mislead: without `model_type`, and with a
    `use_spatial_attention` that its last revision ignored.
    """
    if isinstance(config, Face3DConfig):
        return config
    names = set(names)
    args = dict(config)
    if "model_type" not in args:
        if "angle_warping" in names:
            args["model_type"] = "angle_warping"
        elif "encoder" in names:
            args["model_type"] = "encoder_decoder"
        elif "use_clip_pose_encoder" in args:
            args["model_type"] = "decoder_only_clip"
    args["use_keypoints"] = "fusion_weights" in names
    args["use_spatial_attention"] = "spatial_fusion" in names
    return Face3DConfig.from_original(args)


def import_torch(source: pathlib.Path, workdir: pathlib.Path, *, use_torch: bool = False) -> None:
    """Turns a checkpoint of the original, of any revision, into a run's folder.

    The folder can be evaluated, predicted with, exported, and trained further (`train.py
    --allow_config_change`), from the epoch after the checkpoint's and at its learning rate. The
    original itself catches errors and trains on from epoch 0 with what was loaded so far.

    Args:
      source: the `.pth` file.
      workdir: the folder to make.
      use_torch: let PyTorch read a file that the library's own safe reader cannot.

    Raises:
      ValueError: not such a file, tensors that do not fit (`ConversionError`, which names the first
        of each kind), or a folder that holds a run already.
    """
    loaded = load_torch(source, use_torch=use_torch)
    check_program(source, loaded, "face3d")
    with naming(source):
        fields = Fields(loaded, "the file's content")
        state_dict = unwrapped(loaded["model_state_dict"])
        network = _original_config(fields.get("args", dict[str, Any]), state_dict)
        _, params, batch_stats = from_torch(state_dict, network)
        optimizer = numbered(loaded.get("optimizer_state_dict"), state_dict)
        adam = adam_from_torch(optimizer, parameter_rules(face3d_rules(network)), params)
        scheduler = fields.get("scheduler_state_dict", dict[str, Any], {})
        epoch = fields.get("epoch", CountOrZero) + 1  # the file counts from 0
        train, val, cosines = (
            [taken(x, float, name, infinite=True) for x in fields.get(name, list, [])]
            for name in _HISTORIES
        )
        with settings_of(source, Face3DRunConfig):
            config = _config(fields, network, epoch, adam_rates(optimizer), scheduler)
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
        run = _with_scale_and_stopping(run, fields)
    history = [
        history_entry(i, i * run.steps_per_epoch, {"loss": a}, {"loss": b, "cosine_similarity": c})
        for i, (a, b, c) in enumerate(zip(train, val, cosines, strict=False), start=1)
    ]
    save_run(workdir, run, history=history, score=val[-1] if val else None)


def export_torch(trained: Trained, target: pathlib.Path, *, weights: Weights = "auto") -> None:
    """Writes a `.pth` file that the original loads with strict key checking.

    Args:
      trained: the checkpoint.
      target: the file to write.
      weights: what becomes `model_state_dict`. raw: the file can be resumed. ema: the averaged
        weights, to predict with, without optimizer. auto: ema where there is one.
    """
    config, state = trained.config, trained.state
    params, batch_stats = host(trained.weights(weights))
    epoch = last_entry(trained)["epoch"]
    past = [e for e in trained.metadata["history"] if e["step"] <= trained.step]
    val_losses = [e["val"]["loss"] for e in past if e.get("val")]
    schedule = EpochSchedule.of(trained.recipe.hparams["learning_rate"])
    optimizer = scheduler = None
    if not is_averaged(trained, weights):
        rules = parameter_rules(face3d_rules(config.model))
        optimizer = optimizer_of(trained, rules, initial_rate=schedule.peak if schedule else None)
        scheduler = scheduler_of(trained, epoch)
    value: dict[str, Any] = {
        "epoch": epoch - 1,
        "model_state_dict": to_torch(params, batch_stats, config.model),
        "optimizer_state_dict": optimizer,
        "best_val_loss": min(val_losses, default=float("inf")),
        "args": _args(config, schedule),
        "train_loss_history": [e["train"]["loss"] for e in past if e.get("train")],
        "val_loss_history": val_losses,
        "val_cosine_sim_history": [e["val"]["cosine_similarity"] for e in past if e.get("val")],
        "scheduler_state_dict": scheduler,
    }
    if state.loss_scale:
        value["scaler_state_dict"] = {
            "scale": float(state.loss_scale.scale),
            "growth_factor": 2.0,
            "backoff_factor": 0.5,
            "growth_interval": 2000,
            "_growth_tracker": int(state.loss_scale.growth_tracker),
        }
    if state.early_stopping:
        value |= {
            "best_val_loss_for_early_stop": decimal(state.early_stopping.best),
            "epochs_without_improvement": int(state.early_stopping.num_bad_epochs),
        }
    write_torch(trained, target, value, weights=weights)
    if config.model.encodes_text:
        _log.info(WITHOUT_CLIP)


def _original_config(
    config: Mapping[str, Any] | Face3DConfig, state_dict: Mapping[str, Any]
) -> Face3DConfig:
    """The config of a network with these weights of the original.

    As `network_config`, but for what the weights show of the pose encoder.
    """
    if isinstance(config, Face3DConfig):
        return config
    config = network_config(config, (key.split(".")[0] for key in state_dict))
    return with_text_width(config, state_dict) if config.encodes_text else config


def _config(
    fields: Fields,
    network: Face3DConfig,
    epoch: int,
    rates: dict[str, Any],
    scheduler: Mapping[str, Any],
) -> Face3DRunConfig:
    """The run config that goes on as the original would."""
    args, default = fields.inner("args"), Face3DRunConfig()
    weight_decay = args.get("weight_decay", NonNegative, 1e-5)
    rates = {"learning_rate": 1e-4, "weight_decay": weight_decay} | rates
    rates["learning_rate"] = args.get("lr", NonNegative, rates["learning_rate"])
    # Without a scheduler: the first revision's plateau, whose state is not in its files.
    schedule: dict[str, Any] = {"schedule": "plateau", "min_learning_rate": 0.0}
    plateau = PlateauConfig(factor=0.5, patience_epochs=5)
    if scheduler:
        first = args.get("warmup_lr", NonNegative, 0.0)
        schedule, plateau = scheduler_config(scheduler, warmup_rate=first, unused=plateau)
    return Face3DRunConfig(
        epochs=max(1, args.get("epochs", CountOrZero, epoch)),
        precision="float16" if fields.inner("scaler_state_dict") else "float32",
        optim=OptimConfig(**rates, clip_norm=1.0, **schedule),
        plateau=plateau,
        early_stopping=EarlyStoppingConfig(
            patience_epochs=args.get("early_stopping_patience", CountOrZero, 0) or None,
            min_delta=args.get("early_stopping_min_delta", float, 1e-5),
            save_stopping_epoch=False,
        ),
        model=network,
        pose_text_clip=FROM_CHECKPOINT if network.encodes_text else None,
        loss=LossConfig(
            kind=args.get("loss_type", str, "combined"),
            mse_weight=args.get("mse_weight", NonNegative, 0.5),
            cosine_weight=args.get("cosine_weight", NonNegative, 0.5),
        ),
        data=FaceDataConfig(
            batch_size=args.get("batch_size", Count, default.data.batch_size),
            min_yaw_angle=args.get("min_yaw_angle", float, None),
            max_yaw_angle=args.get("max_yaw_angle", float, None),
        ),
    )


def _with_scale_and_stopping(run: ImportedRun, fields: Fields) -> ImportedRun:
    if scaler := fields.inner("scaler_state_dict"):
        scale = jnp.float32(scaler.get("scale", Positive))
        growth = jnp.int32(scaler.get("_growth_tracker", CountOrZero))
        run = run.with_state(loss_scale=LossScaleState(scale, growth))
    best = fields.get("best_val_loss_for_early_stop", float, None, infinite=True)
    stopping = run.state.early_stopping
    if best is not None and stopping is not None:
        bad_epochs = jnp.int32(fields.get("epochs_without_improvement", CountOrZero))
        stopping = EarlyStoppingState(jnp.float32(best), bad_epochs, stopping.should_stop)
        run = run.with_state(early_stopping=stopping)
    return run


def _args(config: Face3DRunConfig, schedule: EpochSchedule | None) -> dict[str, Any]:
    """The original's arguments for this config."""
    plateau, stopping, model = config.plateau, config.early_stopping, config.model
    lowest = config.optim.min_learning_rate
    if schedule and schedule.kind == "cosine":
        lowest = schedule.end
    args = dataclasses.asdict(model)
    for name in _NOT_ARGUMENTS:
        del args[name]
    if model.model_type != "encoder_decoder":
        args["num_decoder_layers"] = model.num_layers  # what its last revision goes by
    return args | {
        "data_dir": config.data.path or "train/datas/file",
        "batch_size": config.data.batch_size,
        "epochs": config.epochs,
        "lr": config.optim.learning_rate,
        "weight_decay": config.optim.weight_decay,
        "loss_type": config.loss.kind,
        "mse_weight": config.loss.mse_weight,
        "cosine_weight": config.loss.cosine_weight,
        "scheduler_type": schedule.kind if schedule else "plateau",
        "scheduler_factor": plateau.factor,
        "scheduler_patience": plateau.patience_epochs,
        "scheduler_min_lr": lowest,
        "cosine_eta_min": lowest,
        "warmup_epochs": schedule.warmup_epochs if schedule else config.optim.warmup_epochs,
        "warmup_lr": schedule.warmup_rate if schedule else 0.0,
        "use_mixed_precision": config.precision == "float16",
        "early_stopping_patience": stopping.patience_epochs or 0,
        "early_stopping_min_delta": stopping.min_delta,
        "min_yaw_angle": config.data.min_yaw_angle,
        "max_yaw_angle": config.data.max_yaw_angle,
    }
