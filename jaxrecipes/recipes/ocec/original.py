"""Runs of the original OCEC program as runs of ours, and back: weights, moments, scheduler and
metrics.
"""

import logging
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxrecipes.convert.file_fields import Fields
from jaxrecipes.ema import ema_init
from jaxrecipes.fields import Count, CountOrZero, NonNegative, Seed
from jaxrecipes.recipes.ocec.config import EyeDataConfig, OcecRunConfig
from jaxrecipes.recipes.ocec.original_weights import (
    OcecCheckpoint,
    read_checkpoint,
    write_checkpoint,
)
from jaxrecipes.recipes.ocec.recipe import make_recipe
from jaxrecipes.runs.torch_runs import (
    adam_of,
    base_rate,
    history_entry,
    host,
    last_entry,
    plateau_config,
    plateau_of,
    save_run,
    settings_of,
    with_adam,
    with_plateau,
    with_variables,
)
from jaxrecipes.runs.trained import Trained, Weights
from jaxrecipes.train.config import EmaConfig, OptimConfig, PlateauConfig
from jaxrecipes.train.recipe import DataInfo
from jaxrecipes.train.state import TrainState, create_state

_log = logging.getLogger("jaxrecipes")


def import_torch(source: pathlib.Path, workdir: pathlib.Path, *, use_torch: bool = False) -> None:
    """Turns a checkpoint of the original, or of its fork, into a run's folder.

    The folder can be evaluated, predicted with, exported, and gone on with (`train.py
    --allow_config_change`).

    Args:
      source: the `.pt` file.
      workdir: the folder to make.
      use_torch: let PyTorch read a file that the library's own safe reader cannot.

    Raises:
      ValueError: not such a file, tensors that do not fit, or a folder that holds a run already.
    """
    checkpoint = read_checkpoint(source, use_torch=use_torch)
    with settings_of(source, OcecRunConfig):
        config = _config(checkpoint)
    step = checkpoint.optimizer.count if checkpoint.optimizer else 0
    steps_per_epoch = max(1, round(step / max(1, checkpoint.epoch)))
    recipe = make_recipe(config, DataInfo(steps_per_epoch=steps_per_epoch))
    state = create_state(recipe, jax.random.key(config.seed))
    state = _with_checkpoint(state, checkpoint, config)

    train, val = checkpoint.train_metrics or {}, checkpoint.val_metrics or {}
    suffix = "_ema" if config.ema.enabled else ""
    val = {f"{name}{suffix}": value for name, value in val.items()}
    save_run(
        workdir,
        config,
        recipe,
        state,
        steps_per_epoch=steps_per_epoch,
        history=[history_entry(checkpoint.epoch, step, train, val)],
        score=val.get(f"f1{suffix}"),
    )
    _log.info("%s: epoch %d, step %d, now in %s", source, checkpoint.epoch, step, workdir)


def export_torch(trained: Trained, target: pathlib.Path, *, weights: Weights = "auto") -> None:
    """Writes a `.pt` file that the original loads with strict key checking.

    Args:
      trained: the checkpoint.
      target: the file to write.
      weights: what becomes `model_state`. raw: the file can be resumed (averages go under
        `ema_state`, which the original ignores). ema: the averaged weights, to predict with,
        without optimizer. auto: ema where there is one.
    """
    config, state = trained.config, trained.state
    averaged = trained.recipe.ema and weights != "raw"
    params, batch_stats = trained.weights(weights)
    target.parent.mkdir(parents=True, exist_ok=True)
    metrics = last_entry(trained)
    write_checkpoint(
        target,
        OcecCheckpoint(
            config=config.model,
            params=host(params),
            batch_stats=host(batch_stats),
            ema_params=host(state.ema_params) if trained.recipe.ema and not averaged else None,
            optimizer=None if averaged else adam_of(trained),
            plateau=None if averaged else plateau_of(trained, metrics["epoch"]),
            epoch=metrics["epoch"],
            image_size=config.data.image_size,
            mean=config.data.mean,
            std=config.data.std,
            train_metrics=metrics["train"],
            val_metrics=metrics["val"] or None,
            train_config={
                "data_root": config.data.path,
                "epochs": config.epochs,
                "batch_size": config.data.batch_size,
                "lr": config.optim.learning_rate,
                "weight_decay": config.optim.weight_decay,
                "seed": config.seed,
            },
        ),
    )
    _log.info("%s: %s weights of step %d", target, "averaged" if averaged else "raw", trained.step)


def _config(checkpoint: OcecCheckpoint) -> OcecRunConfig:
    """The run config that goes on as the original would."""
    original = Fields(checkpoint.train_config, "train_config")
    rates = checkpoint.optimizer.hyperparams if checkpoint.optimizer else {}
    scheduler = checkpoint.plateau
    return OcecRunConfig(
        seed=original.get("seed", Seed, 42),
        epochs=max(1, original.get("epochs", CountOrZero, checkpoint.epoch)),
        optim=OptimConfig(
            learning_rate=original.get("lr", NonNegative, rates.get("learning_rate", 1e-4)),
            schedule="constant" if scheduler is None else "plateau",
            min_learning_rate=0.0 if scheduler is None else scheduler.settings["min_lr"],
            weight_decay=original.get("weight_decay", NonNegative, rates.get("weight_decay", 1e-4)),
            b1=rates.get("b1", 0.9),
            b2=rates.get("b2", 0.999),
            eps=rates.get("eps", 1e-8),
        ),
        plateau=PlateauConfig() if scheduler is None else plateau_config(scheduler),
        ema=EmaConfig(
            enabled=checkpoint.ema_params is not None,
            decay=0.999,
            warmup=False,
            average_batch_stats=False,
        ),
        model=checkpoint.config,
        data=EyeDataConfig(
            image_size=checkpoint.image_size,
            batch_size=original.get("batch_size", Count, 32),
            mean=_three(checkpoint.mean),
            std=_three(checkpoint.std),
        ),
    )


def _with_checkpoint(
    state: TrainState, checkpoint: OcecCheckpoint, config: OcecRunConfig
) -> TrainState:
    state = with_variables(state, checkpoint.params, checkpoint.batch_stats)
    if checkpoint.optimizer is not None:
        state = with_adam(state, checkpoint.optimizer)
    if checkpoint.ema_params is not None:
        averaged_stats = checkpoint.ema_batch_stats or checkpoint.batch_stats
        state = state.replace(
            ema_params=ema_init(jax.tree.map(jnp.asarray, checkpoint.ema_params)),
            ema_batch_stats=ema_init(jax.tree.map(jnp.asarray, averaged_stats)),
        )
    if checkpoint.plateau is not None:
        state = with_plateau(state, checkpoint.plateau, base_rate(config))
    return state


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)
