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
    base_rate,
    decimal,
    epoch_schedule,
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
from jaxrecipes.schedules import cosine, step_decay
from jaxrecipes.train.config import EarlyStoppingConfig, OptimConfig, PlateauConfig
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
    scheduler = _scheduler(trained, epoch)
    write_checkpoint(
        target,
        Face3DCheckpoint(
            config=config.model,
            params=params,
            batch_stats=batch_stats,
            optimizer=None if averaged else adam_of(trained),
            scheduler=None if averaged else scheduler,
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
            args=_args(config, scheduler),
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
            **_schedule(checkpoint.scheduler),
        ),
        plateau=_plateau(checkpoint.scheduler),
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


def _schedule(scheduler: PlateauNumbers | EpochSchedule | None) -> dict[str, Any]:
    """The fields of `optim` for a scheduler."""
    if isinstance(scheduler, PlateauNumbers):
        return {"min_learning_rate": scheduler.settings["min_lr"]}
    if scheduler is None:
        return {"min_learning_rate": 0.0}
    after = f"step_decay(rate, step_size={scheduler.period_epochs}, gamma={scheduler.end!r})"
    if scheduler.kind == "cosine":
        after = f"cosine(rate, steps={scheduler.period_epochs}, end={scheduler.end!r})"
    if warmup := scheduler.warmup_epochs:
        rise = f"linear({scheduler.warmup_learning_rate!r}, rate, steps={warmup})"
        after = f"join(({rise}, {after}), ({warmup},))"
    return {"schedule": f"every({after}, epoch)", "min_learning_rate": 0.0}


def _plateau(scheduler: PlateauNumbers | EpochSchedule | None) -> PlateauConfig:
    if isinstance(scheduler, PlateauNumbers):
        return plateau_config(scheduler)
    # Of no scheduler: the first revision's, whose state is not in its files.
    return PlateauConfig(factor=0.5, patience_epochs=5)


def _with_checkpoint(
    state: TrainState, checkpoint: Face3DCheckpoint, config: Face3DRunConfig
) -> TrainState:
    if checkpoint.optimizer is not None:
        state = with_adam(state, checkpoint.optimizer)
    if isinstance(checkpoint.scheduler, PlateauNumbers):
        state = with_plateau(state, checkpoint.scheduler, base_rate(config))
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
    found = epoch_schedule(trained)
    if found is None or found.after.kind not in (cosine, step_decay):
        return plateau_of(trained, epoch)
    is_cosine, numbers = found.after.kind is cosine, found.after.numbers
    return EpochSchedule(
        kind="cosine" if is_cosine else "step",
        warmup_epochs=found.warmup_epochs,
        warmup_learning_rate=found.warmup_learning_rate,
        base_learning_rate=decimal(numbers["peak" if is_cosine else "start"]),
        period_epochs=int(numbers["steps" if is_cosine else "step_size"]),
        end=decimal(numbers["end" if is_cosine else "gamma"]),
        learning_rate=decimal(trained.hparams["learning_rate"]),
        last_epoch=epoch,
    )


def _args(
    config: Face3DRunConfig, scheduler: PlateauNumbers | EpochSchedule | None
) -> dict[str, Any]:
    """The original's arguments for this config."""
    plateau, stopping, model = config.plateau, config.early_stopping, config.model
    counting = scheduler if isinstance(scheduler, EpochSchedule) else None
    lowest = config.optim.min_learning_rate
    if counting is not None and counting.kind == "cosine":
        lowest = counting.end
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
        "scheduler_type": counting.kind if counting else "plateau",
        "scheduler_factor": plateau.factor,
        "scheduler_patience": plateau.patience_epochs,
        "scheduler_min_lr": lowest,
        "cosine_eta_min": lowest,
        "warmup_epochs": counting.warmup_epochs if counting else config.optim.warmup_epochs,
        "warmup_lr": counting.warmup_learning_rate if counting else 0.0,
        "use_mixed_precision": config.precision == "float16",
        "early_stopping_patience": stopping.patience_epochs or 0,
        "early_stopping_min_delta": stopping.min_delta,
        "min_yaw_angle": config.data.min_yaw_angle,
        "max_yaw_angle": config.data.max_yaw_angle,
    }
