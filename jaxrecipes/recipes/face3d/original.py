"""Runs of the original face3d program as runs of ours, and back: weights, moments, scheduler, loss
scale, early stopping and losses.
"""

import dataclasses
import logging
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from jaxrecipes.convert.file_fields import Fields
from jaxrecipes.convert.torch_optim import PlateauNumbers
from jaxrecipes.fields import Count, CountOrZero, NonNegative
from jaxrecipes.plateau import EarlyStoppingState
from jaxrecipes.precision import LossScaleState
from jaxrecipes.recipes.face3d.config import Face3DRunConfig, LossConfig
from jaxrecipes.recipes.face3d.original_checkpoint import (
    EpochSchedule,
    Face3DCheckpoint,
    read_checkpoint,
    write_checkpoint,
)
from jaxrecipes.recipes.face3d.recipe import make_recipe
from jaxrecipes.recipes.faces.data import FaceDataConfig
from jaxrecipes.recipes.faces.pose_text_source import FROM_CHECKPOINT, WITHOUT_CLIP
from jaxrecipes.runs.torch_runs import (
    adam_of,
    decimal,
    history_entry,
    host,
    last_entry,
    plateau_config,
    plateau_of,
    save_run,
    settings_of,
    with_adam,
    with_plateau,
)
from jaxrecipes.runs.trained import Trained, Weights
from jaxrecipes.train.config import EarlyStoppingConfig, LrScheduleConfig, OptimConfig
from jaxrecipes.train.recipe import DataInfo
from jaxrecipes.train.state import TrainState, create_state

_log = logging.getLogger("jaxrecipes")


def import_torch(source: pathlib.Path, workdir: pathlib.Path, *, use_torch: bool = False) -> None:
    """Turns a checkpoint of the original into a run's folder.

    The folder can be evaluated, predicted with, exported, and gone on with (`train.py
    --allow_config_change`), from the epoch after the checkpoint's and at its learning rate.

    Args:
      source: the `.pth` file.
      workdir: the folder to make.
      use_torch: let PyTorch read a file that the library's own safe reader cannot.

    Raises:
      ValueError: not such a file, tensors that do not fit, or a folder that holds a run already.
    """
    checkpoint = read_checkpoint(source, use_torch=use_torch)
    with settings_of(source, Face3DRunConfig):
        config = _config(checkpoint)
    count = checkpoint.optimizer.count if checkpoint.optimizer else 0
    steps_per_epoch = max(1, round(count / checkpoint.epoch)) if checkpoint.epoch else 1
    recipe = make_recipe(config, DataInfo(steps_per_epoch=steps_per_epoch))
    variables = jax.tree.map(jnp.asarray, (checkpoint.params, checkpoint.batch_stats))
    ready = dataclasses.replace(recipe, init=lambda key: variables)
    state = _with_checkpoint(create_state(ready, jax.random.key(config.seed)), checkpoint, config)
    rows = zip(checkpoint.train_losses, checkpoint.val_losses, checkpoint.val_cosines, strict=False)
    history = [
        history_entry(
            i, i * steps_per_epoch, {"loss": train}, {"loss": val, "cosine_similarity": cosine}
        )
        for i, (train, val, cosine) in enumerate(rows, start=1)
    ]
    save_run(
        workdir,
        config,
        recipe,
        state,
        steps_per_epoch=steps_per_epoch,
        history=history or [history_entry(checkpoint.epoch, count, {}, {})],
        score=checkpoint.val_losses[-1] if checkpoint.val_losses else None,
    )
    _log.info("%s: epoch %d, step %d, now in %s", source, checkpoint.epoch, count, workdir)


def export_torch(trained: Trained, target: pathlib.Path, *, weights: Weights = "auto") -> None:
    """Writes a `.pth` file that the original loads with strict key checking.

    Args:
      trained: the checkpoint.
      target: the file to write.
      weights: what becomes `model_state_dict`. raw: the file can be resumed. ema: the averaged
        weights, to predict with, without optimizer. auto: ema where there is one.
    """
    config, state = trained.config, trained.state
    averaged = trained.recipe.ema and weights != "raw"
    params, batch_stats = host(trained.weights(weights))
    epoch = last_entry(trained)["epoch"]
    past = [e for e in trained.metadata["history"] if e["step"] <= trained.step]
    val_losses = [e["val"]["loss"] for e in past if e.get("val")]
    target.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(
        target,
        Face3DCheckpoint(
            config=config.model,
            params=params,
            batch_stats=batch_stats,
            optimizer=None if averaged else adam_of(trained),
            scheduler=None if averaged else _scheduler(trained, epoch),
            scaler=state.loss_scale
            and {
                "scale": float(state.loss_scale.scale),
                "growth_tracker": int(state.loss_scale.growth_tracker),
            },
            stopping=state.early_stopping
            and (decimal(state.early_stopping.best), int(state.early_stopping.num_bad_epochs)),
            epoch=epoch,
            best_val_loss=min(val_losses, default=float("inf")),
            train_losses=[e["train"]["loss"] for e in past if e.get("train")],
            val_losses=val_losses,
            val_cosines=[e["val"]["cosine_similarity"] for e in past if e.get("val")],
            args=_args(config),
        ),
    )
    _log.info("%s: %s weights of step %d", target, "averaged" if averaged else "raw", trained.step)
    if config.model.encodes_text:
        _log.info(WITHOUT_CLIP)


def _config(checkpoint: Face3DCheckpoint) -> Face3DRunConfig:
    """The run config that goes on as the original would."""
    args, default = Fields(checkpoint.args, "args"), Face3DRunConfig()
    rates = checkpoint.optimizer.hyperparams if checkpoint.optimizer else {}
    patience = args.get("early_stopping_patience", CountOrZero, 0)
    return Face3DRunConfig(
        epochs=max(1, args.get("epochs", CountOrZero, checkpoint.epoch)),
        precision="float16" if checkpoint.scaler else "float32",
        optim=OptimConfig(
            learning_rate=args.get("lr", NonNegative, rates.get("learning_rate", 1e-4)),
            weight_decay=rates.get("weight_decay", args.get("weight_decay", NonNegative, 1e-5)),
            b1=rates.get("b1", 0.9),
            b2=rates.get("b2", 0.999),
            eps=rates.get("eps", 1e-8),
            clip_norm=1.0,
        ),
        lr_schedule=_lr_schedule(checkpoint.scheduler),
        early_stopping=EarlyStoppingConfig(
            patience_epochs=patience or None,
            min_delta=args.get("early_stopping_min_delta", float, 1e-5),
            save_stopping_epoch=False,
        ),
        model=checkpoint.config,
        pose_text_clip=FROM_CHECKPOINT if checkpoint.config.encodes_text else None,
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


def _lr_schedule(scheduler: PlateauNumbers | EpochSchedule | None) -> LrScheduleConfig:
    if isinstance(scheduler, PlateauNumbers):
        return plateau_config(scheduler)
    if scheduler is None:  # the first revision's plateau, whose state is not in its files
        return LrScheduleConfig(factor=0.5, patience_epochs=5)
    shared: dict[str, Any] = {
        "period_epochs": scheduler.period_epochs,
        "warmup_epochs": scheduler.warmup_epochs,
        "warmup_learning_rate": scheduler.warmup_learning_rate if scheduler.warmup_epochs else None,
    }
    if scheduler.kind == "cosine":
        return LrScheduleConfig(kind="cosine", min_learning_rate=scheduler.end, **shared)
    return LrScheduleConfig(kind="step", factor=scheduler.end, **shared)


def _with_checkpoint(
    state: TrainState, checkpoint: Face3DCheckpoint, config: Face3DRunConfig
) -> TrainState:
    if checkpoint.optimizer is not None:
        state = with_adam(state, checkpoint.optimizer)
    if isinstance(checkpoint.scheduler, PlateauNumbers):
        state = with_plateau(state, checkpoint.scheduler, config.optim.learning_rate)
    if checkpoint.scaler is not None:
        state = state.replace(
            loss_scale=LossScaleState(
                jnp.float32(checkpoint.scaler["scale"]),
                jnp.int32(checkpoint.scaler["growth_tracker"]),
            )
        )
    if checkpoint.stopping is not None and state.early_stopping is not None:
        best, bad_epochs = checkpoint.stopping
        stopping = EarlyStoppingState(
            jnp.float32(best), jnp.int32(bad_epochs), state.early_stopping.should_stop
        )
        state = state.replace(early_stopping=stopping)
    return state


def _scheduler(trained: Trained, epoch: int) -> PlateauNumbers | EpochSchedule | None:
    """The scheduler after `epoch` epochs, where the original has such a one."""
    config: Face3DRunConfig = trained.config
    lr = config.lr_schedule
    if lr.kind not in ("cosine", "step"):
        return plateau_of(trained, epoch)
    left = max(1, config.epochs - lr.warmup_epochs)
    default = left if lr.kind == "cosine" else 10
    return EpochSchedule(
        kind=lr.kind,
        warmup_epochs=lr.warmup_epochs,
        warmup_learning_rate=lr.warmup_learning_rate or 0.0,
        base_learning_rate=config.optim.learning_rate,
        period_epochs=lr.period_epochs or default,
        end=lr.min_learning_rate if lr.kind == "cosine" else lr.factor,
        learning_rate=decimal(trained.hparams["learning_rate"]),
        last_epoch=epoch,
    )


def _args(config: Face3DRunConfig) -> dict[str, Any]:
    """The original's arguments for this config."""
    lr, stopping, model = config.lr_schedule, config.early_stopping, config.model
    args = dataclasses.asdict(model)
    for ours in (
        "feat_dim",
        "pose_text_dim",
        "use_keypoints",
        "use_angle_pe",
        "use_angle_conditioning",
    ):
        del args[ours]
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
        "scheduler_type": lr.kind,
        "scheduler_factor": lr.factor,
        "scheduler_patience": lr.patience_epochs,
        "scheduler_min_lr": lr.min_learning_rate,
        "cosine_eta_min": lr.min_learning_rate,
        "warmup_epochs": lr.warmup_epochs,
        "warmup_lr": lr.warmup_learning_rate or 0.0,
        "use_mixed_precision": config.precision == "float16",
        "early_stopping_patience": stopping.patience_epochs or 0,
        "early_stopping_min_delta": stopping.min_delta,
        "min_yaw_angle": config.data.min_yaw_angle,
        "max_yaw_angle": config.data.max_yaw_angle,
    }
