"""Runs of the original universal face program as runs of ours, and back."""

import dataclasses
import logging
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipes.convert.file_fields import Fields
from jaxrecipes.convert.torch_optim import AdamState, PlateauNumbers
from jaxrecipes.fields import Count, CountOrZero, NonNegative, Positive
from jaxrecipes.recipes.faces.data import FaceDataConfig
from jaxrecipes.recipes.faces.pose_text_source import FROM_CHECKPOINT, WITHOUT_CLIP
from jaxrecipes.recipes.universal_face.config import LossConfig, UniversalFaceRunConfig
from jaxrecipes.recipes.universal_face.original_checkpoint import (
    StepDecay,
    UniversalFaceCheckpoint,
    read_checkpoint,
    write_checkpoint,
)
from jaxrecipes.recipes.universal_face.recipe import make_recipe
from jaxrecipes.runs import torch_runs
from jaxrecipes.runs.trained import Trained, Weights
from jaxrecipes.schedules import step_decay
from jaxrecipes.train.config import OptimConfig, PlateauConfig
from jaxrecipes.train.recipe import DataInfo, Recipe
from jaxrecipes.train.state import TrainState, create_state

_log = logging.getLogger("jaxrecipes")

_LAMBDAS = (
    "lambda_id",
    "lambda_pose",
    "lambda_ortho",
    "lambda_contrast",
    "lambda_reconstruction",
)


def import_torch(source: pathlib.Path, workdir: pathlib.Path, *, use_torch: bool = False) -> None:
    """Turns a checkpoint of the original into a run's folder.

    The folder can be evaluated, predicted with, exported, and gone on with (`train.py
    --allow_config_change`, with other loss weights if wanted). Scheduler and best cosine go on
    too, which the original forgets, but not where the loss projections had to be drawn anew: the
    old cosines were measured with others.

    Args:
      source: the `.pth` file.
      workdir: the folder to make.
      use_torch: let PyTorch read a file that the library's own safe reader cannot.

    Raises:
      ValueError: not such a file, tensors that do not fit, or a folder that holds a run already.
    """
    checkpoint = read_checkpoint(source, use_torch=use_torch)
    with torch_runs.settings_of(source, UniversalFaceRunConfig):
        config = _config(checkpoint)
    step = checkpoint.optimizer.count if checkpoint.optimizer else 0
    steps_per_epoch = max(1, round(step / max(1, checkpoint.epoch)))
    recipe = make_recipe(config, DataInfo(steps_per_epoch=steps_per_epoch))
    state = _state(recipe, checkpoint, config)
    val: dict[str, float] = {}
    if checkpoint.best_val_cosine is not None and not checkpoint.projections_drawn:
        val = {"cosine_similarity": checkpoint.best_val_cosine}
        if checkpoint.best_val_loss is not None:
            val["loss"] = checkpoint.best_val_loss
    torch_runs.save_run(
        workdir,
        config,
        recipe,
        state,
        steps_per_epoch=steps_per_epoch,
        history=[torch_runs.history_entry(checkpoint.epoch, step, {}, val)],
        score=val.get("cosine_similarity"),
    )
    _log.info("%s: epoch %d, step %d, now in %s", source, checkpoint.epoch, step, workdir)


def export_torch(trained: Trained, target: pathlib.Path, *, weights: Weights = "auto") -> None:
    """Writes a `.pth` file that the original loads with strict key checking.

    Args:
      trained: the checkpoint.
      target: the file to write.
      weights: what becomes `model_state_dict`. raw: the file can be resumed. ema: the averaged
        weights, to predict with, without optimizer. auto: ema where there is one.
    """
    config = trained.config
    averaged = trained.recipe.ema and weights != "raw"
    params, batch_stats = torch_runs.host(trained.weights(weights))
    target.parent.mkdir(parents=True, exist_ok=True)
    entry = torch_runs.last_entry(trained)
    best = _best(trained)
    network, projections = (None, None) if averaged else _split(torch_runs.adam_of(trained))
    write_checkpoint(
        target,
        UniversalFaceCheckpoint(
            config=config.model,
            params=params,
            batch_stats=batch_stats,
            optimizer=network,
            projection_optimizer=projections,
            scheduler=None if averaged else _scheduler(trained, entry["epoch"]),
            epoch=entry["epoch"],
            best_val_loss=best.get("loss"),
            best_val_cosine=best.get("cosine_similarity"),
            args=_args(config),
        ),
    )
    _log.info("%s: %s weights of step %d", target, "averaged" if averaged else "raw", trained.step)
    if config.model.use_clip_pose_encoder:
        _log.info(WITHOUT_CLIP)


def _config(checkpoint: UniversalFaceCheckpoint) -> UniversalFaceRunConfig:
    """The run config that goes on as the original would, but for the loss projections."""
    args, scheduler = Fields(checkpoint.args, "args"), checkpoint.scheduler
    rates = checkpoint.optimizer.hyperparams if checkpoint.optimizer else {}
    schedule, lowest, plateau = "constant", 0.0, PlateauConfig()
    if isinstance(scheduler, PlateauNumbers):
        schedule, lowest = "plateau", scheduler.settings["min_lr"]
        plateau = torch_runs.plateau_config(scheduler, monitor="cosine_similarity")
    elif scheduler is not None:
        decay = f"step_decay(rate, step_size={scheduler.step_size}, gamma={scheduler.gamma!r})"
        schedule = f"every({decay}, epoch)"
    weights: dict[str, Any] = {name: args.get(name, float) for name in _LAMBDAS if name in args}
    # Programs from before the protection term could be weighed had 0.5 and no margin.
    adjusted = "lambda_similarity_protection" in args
    return UniversalFaceRunConfig(
        epochs=max(1, args.get("epochs", CountOrZero, 150), checkpoint.epoch),
        precision="float16" if args.get("use_mixed_precision", bool, False) else "float32",
        optim=OptimConfig(
            learning_rate=args.get("lr", NonNegative, rates.get("learning_rate", 1e-4)),
            schedule=schedule,
            min_learning_rate=lowest,
            weight_decay=args.get("weight_decay", NonNegative, rates.get("weight_decay", 1e-5)),
            b1=rates.get("b1", 0.9),
            b2=rates.get("b2", 0.999),
            eps=rates.get("eps", 1e-8),
            clip_norm=1.0,
        ),
        plateau=plateau,
        model=checkpoint.config,
        pose_text_clip=FROM_CHECKPOINT if checkpoint.config.use_clip_pose_encoder else None,
        loss=LossConfig(
            **weights,
            lambda_similarity_protection=args.get("lambda_similarity_protection", float, 0.5),
            temperature=args.get("temperature", Positive, 0.07),
            protection_margin=0.01 if adjusted else 0.0,
        ),
        data=FaceDataConfig(
            batch_size=args.get("batch_size", Count, 32),
            eval_batch_size=args.get("batch_size", Count, 32),
            min_yaw_angle=args.get("min_yaw_angle", float, None),
            max_yaw_angle=args.get("max_yaw_angle", float, None),
        ),
    )


def _state(
    recipe: Recipe, checkpoint: UniversalFaceCheckpoint, config: UniversalFaceRunConfig
) -> TrainState:
    variables = jax.tree.map(jnp.asarray, (checkpoint.params, checkpoint.batch_stats))
    recipe = dataclasses.replace(recipe, init=lambda key: variables)
    state = create_state(recipe, jax.random.key(config.seed))
    adam, projections = checkpoint.optimizer, checkpoint.projection_optimizer
    if adam is not None:
        kernel = checkpoint.params["loss_projections"]["id_to_feat"]["kernel"]
        zeros = {"loss_projections": {"id_to_feat": {"kernel": np.zeros_like(kernel)}}}
        adam = dataclasses.replace(
            adam,
            mu=adam.mu | (projections.mu if projections else zeros),
            nu=adam.nu | (projections.nu if projections else zeros),
        )
        state = torch_runs.with_adam(state, adam)
    plateau = checkpoint.scheduler
    if isinstance(plateau, PlateauNumbers):
        if checkpoint.projections_drawn:
            plateau = dataclasses.replace(plateau, best=-np.inf, num_bad_epochs=0)
        state = torch_runs.with_plateau(state, plateau, torch_runs.base_rate(config))
    return state


def _split(adam: AdamState | None) -> tuple[AdamState | None, AdamState | None]:
    """The moments of the network's parameters, and those of the loss projection where it trains."""
    if adam is None:
        return None, None

    def part(projections: bool) -> AdamState:
        mu, nu = (
            {name: x for name, x in tree.items() if (name == "loss_projections") == projections}
            for tree in (adam.mu, adam.nu)
        )
        return dataclasses.replace(adam, mu=mu, nu=nu)

    return part(False), part(True) if "loss_projections" in adam.mu else None


def _scheduler(trained: Trained, epoch: int) -> PlateauNumbers | StepDecay | None:
    found = torch_runs.epoch_schedule(trained)
    if found is None or found.after.kind is not step_decay or found.warmup_epochs:
        return torch_runs.plateau_of(trained, epoch)
    numbers = found.after.numbers
    return StepDecay(
        step_size=int(numbers["step_size"]),
        gamma=torch_runs.decimal(numbers["gamma"]),
        learning_rate=torch_runs.decimal(numbers["start"]),
    )


def _best(trained: Trained) -> dict[str, float]:
    """The metrics of the epoch with the best cosine so far; empty before the first validation."""
    entries = [
        entry["val"]
        for entry in trained.metadata["history"]
        if entry["step"] <= trained.step and entry["val"].get("cosine_similarity") is not None
    ]
    return max(entries, key=lambda val: val["cosine_similarity"], default={})


def _args(config: UniversalFaceRunConfig) -> dict[str, Any]:
    """The original's flags, as far as this run has them."""
    loss = config.loss
    return {
        "data_dir": config.data.path,
        "batch_size": config.data.batch_size,
        "num_workers": 4,
        **config.model.original_flags(),
        "epochs": config.epochs,
        "lr": config.optim.learning_rate,
        "weight_decay": config.optim.weight_decay,
        **{name: getattr(loss, name) for name in _LAMBDAS},
        "lambda_similarity_protection": loss.lambda_similarity_protection,
        "temperature": loss.temperature,
        "resume": None,
        "use_mixed_precision": config.precision == "float16",
        "min_yaw_angle": config.data.min_yaw_angle,
        "max_yaw_angle": config.data.max_yaw_angle,
    }
