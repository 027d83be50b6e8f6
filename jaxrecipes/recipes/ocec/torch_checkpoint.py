"""Runs of the original OCEC program as runs of ours, and back: weights, moments, scheduler and
metrics.
"""

import dataclasses
import logging
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrecipes.checkpoint import CheckpointManager
from jaxrecipes.config import to_dict
from jaxrecipes.convert.ocec import OcecCheckpoint, read_checkpoint, write_checkpoint
from jaxrecipes.convert.torch_optim import AdamState, PlateauNumbers
from jaxrecipes.ema import ema_init
from jaxrecipes.plateau import PlateauState
from jaxrecipes.recipes.ocec.config import EyeDataConfig, OcecRunConfig
from jaxrecipes.recipes.ocec.recipe import make_recipe
from jaxrecipes.recipes.trained import Trained, Weights
from jaxrecipes.train.config import EmaConfig, LrScheduleConfig, OptimConfig
from jaxrecipes.train.resume import checkpoint_folder, checkpoint_metadata
from jaxrecipes.train.run_files import write_json
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
    config = _config(checkpoint)
    step = checkpoint.optimizer.count if checkpoint.optimizer else 0
    steps_per_epoch = max(1, round(step / max(1, checkpoint.epoch)))
    recipe = make_recipe(config, steps_per_epoch=steps_per_epoch)
    state = create_state(recipe, jax.random.key(config.seed))
    state = _with_checkpoint(state, checkpoint, config)

    train, val = checkpoint.train_metrics or {}, checkpoint.val_metrics or {}
    suffix = "_ema" if config.ema.enabled else ""
    val = {f"{name}{suffix}": value for name, value in val.items()}
    history = [
        {
            "epoch": checkpoint.epoch,
            "step": step,
            "train": train,
            "val": val,
            "hparams": {},
            "seconds": 0.0,
        }
    ]
    with CheckpointManager(checkpoint_folder(workdir), mode=config.select_mode) as checkpoints:
        if checkpoints.latest_step is not None:
            raise ValueError(f"{workdir} holds a run already; choose another --output")
        metadata = checkpoint_metadata(
            recipe,
            to_dict(config),
            steps_per_epoch=steps_per_epoch,
            history=history,
            mid_epoch=False,
        )
        checkpoints.save(step, {"state": state}, metadata=metadata, score=val.get(f"f1{suffix}"))
    write_json(workdir / "config.json", {"recipe": recipe.name} | to_dict(config))
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
    entry = next(
        (e for e in reversed(trained.metadata["history"]) if e["step"] <= trained.step), None
    )
    metrics: dict[str, Any] = entry or {"epoch": 0, "train": None, "val": None}
    write_checkpoint(
        target,
        OcecCheckpoint(
            config=config.model,
            params=_host(params),
            batch_stats=_host(batch_stats),
            ema_params=_host(state.ema_params) if trained.recipe.ema and not averaged else None,
            optimizer=None if averaged else _adam(trained),
            plateau=None if averaged else _plateau(trained, metrics["epoch"]),
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
    original = checkpoint.train_config
    rates = checkpoint.optimizer.hyperparams if checkpoint.optimizer else {}
    schedule = LrScheduleConfig(kind="constant")
    if checkpoint.plateau is not None:
        settings = checkpoint.plateau.settings
        schedule = LrScheduleConfig(
            kind="plateau",
            mode=settings["mode"],
            factor=settings["factor"],
            patience_epochs=settings["patience"],
            threshold=settings["threshold"],
            threshold_mode=settings["threshold_mode"],
            cooldown_epochs=settings["cooldown"],
            min_learning_rate=settings["min_lr"],
            eps=settings["eps"],
        )
    return OcecRunConfig(
        seed=int(original.get("seed", 42)),
        epochs=max(1, int(original.get("epochs", checkpoint.epoch))),
        optim=OptimConfig(
            learning_rate=float(original.get("lr", rates.get("learning_rate", 1e-4))),
            weight_decay=float(original.get("weight_decay", rates.get("weight_decay", 1e-4))),
            b1=rates.get("b1", 0.9),
            b2=rates.get("b2", 0.999),
            eps=rates.get("eps", 1e-8),
        ),
        lr_schedule=schedule,
        ema=EmaConfig(
            enabled=checkpoint.ema_params is not None,
            decay=0.999,
            warmup=False,
            average_batch_stats=False,
        ),
        model=checkpoint.config,
        data=EyeDataConfig(
            image_size=checkpoint.image_size,
            batch_size=int(original.get("batch_size", 32)),
            mean=_three(checkpoint.mean),
            std=_three(checkpoint.std),
        ),
    )


def _with_checkpoint(
    state: TrainState, checkpoint: OcecCheckpoint, config: OcecRunConfig
) -> TrainState:
    params, batch_stats = jax.tree.map(jnp.asarray, (checkpoint.params, checkpoint.batch_stats))
    state = state.replace(params=params, batch_stats=batch_stats)
    if checkpoint.optimizer is not None:
        adam = checkpoint.optimizer
        mu, nu = jax.tree.map(jnp.asarray, (adam.mu, adam.nu))
        opt_state = optax.tree.set(state.opt_state, mu=mu, nu=nu, count=jnp.int32(adam.count))
        state = state.replace(step=jnp.int32(adam.count), opt_state=opt_state)
    if checkpoint.ema_params is not None:
        averaged_stats = checkpoint.ema_batch_stats or checkpoint.batch_stats
        state = state.replace(
            ema_params=ema_init(jax.tree.map(jnp.asarray, checkpoint.ema_params)),
            ema_batch_stats=ema_init(jax.tree.map(jnp.asarray, averaged_stats)),
        )
    if checkpoint.plateau is not None:
        plateau = checkpoint.plateau
        state = state.replace(
            plateau=PlateauState(
                learning_rate=jnp.float32(plateau.learning_rate),
                base_learning_rate=jnp.float32(config.optim.learning_rate),
                best=jnp.float32(plateau.best),
                num_bad_epochs=jnp.int32(plateau.num_bad_epochs),
                cooldown_counter=jnp.int32(plateau.cooldown_counter),
            )
        )
    return state


def _adam(trained: Trained) -> AdamState | None:
    """The moments, where the optimizer is AdamW over every parameter as in the original."""
    if trained.config.optim.optimizer != "adamw" or trained.config.optim.frozen:
        return None
    opt_state, hparams = trained.state.opt_state, trained.hparams
    names = ("learning_rate", "b1", "b2", "eps", "weight_decay")
    return AdamState(
        mu=_host(optax.tree.get(opt_state, "mu")),
        nu=_host(optax.tree.get(opt_state, "nu")),
        count=int(optax.tree.get(opt_state, "count")),
        hyperparams={name: _decimal(hparams[name]) for name in names},
    )


def _plateau(trained: Trained, epoch: int) -> PlateauNumbers | None:
    recipe, state = trained.recipe, trained.state.plateau
    if recipe.plateau is None:
        return None
    return PlateauNumbers(
        settings=dataclasses.asdict(recipe.plateau),
        learning_rate=_decimal(state.learning_rate),
        best=_decimal(state.best),
        num_bad_epochs=int(state.num_bad_epochs),
        cooldown_counter=int(state.cooldown_counter),
        last_epoch=epoch,
    )


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)


def _decimal(value: Any) -> float:
    """The shortest decimal that is this float32: 0.002, not 0.0020000000949949026."""
    return float(str(np.float32(value)))


def _host(tree: Any) -> Any:
    return jax.tree.map(np.asarray, tree)
