"""What all recipes share to turn a PyTorch checkpoint into a run's folder, and a run into one."""

import contextlib
import dataclasses
import logging
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrecipes.checkpoint import CheckpointManager
from jaxrecipes.config import to_dict
from jaxrecipes.convert.file_fields import naming
from jaxrecipes.convert.rules import Rule
from jaxrecipes.convert.torch_optim import adam_to_torch, decimal
from jaxrecipes.convert.torch_schedulers import (
    EpochSchedule,
    is_plateau,
    lowest_rate,
    plateau_from_torch,
    plateau_settings,
    plateau_to_torch,
)
from jaxrecipes.convert.writer import save_torch
from jaxrecipes.fields import FieldError, located
from jaxrecipes.json_files import write_json
from jaxrecipes.locks import alone_in
from jaxrecipes.runs.trained import Trained, Weights
from jaxrecipes.train import nonfinite
from jaxrecipes.train.config import PlateauConfig, RunConfig
from jaxrecipes.train.recipe import Recipe
from jaxrecipes.train.resume import checkpoint_folder, checkpoint_metadata
from jaxrecipes.train.state import TrainState, create_state
from jaxrecipes.train.timeline import Timeline

_log = logging.getLogger("jaxrecipes")


def save_run(
    workdir: pathlib.Path,
    config: RunConfig,
    recipe: Recipe,
    state: TrainState,
    *,
    steps_per_epoch: int,
    history: list[dict[str, Any]],
    score: float | None,
) -> None:
    """Makes the folder of a run that stands at `state`.

    Args:
      workdir: the folder.
      config: what the run goes on with.
      recipe: made from it.
      state: at the end of an epoch.
      steps_per_epoch: optimizer steps in an epoch.
      history: the epochs so far, see `history_entry`.
      score: of `config.select_metric`, if known.

    Raises:
      ValueError: the folder holds a run already, or the state a NaN or an infinity.
    """
    nonfinite.check_start(state, "what the file holds")
    with (
        alone_in(workdir),
        CheckpointManager(checkpoint_folder(workdir), mode=config.select_mode) as checkpoints,
    ):
        if checkpoints.latest_step is not None:
            raise ValueError(f"{workdir} holds a run already; choose another --output")
        metadata = checkpoint_metadata(
            recipe,
            config,
            timeline=Timeline(steps_per_epoch=steps_per_epoch),
            history=history,
            mid_epoch=False,
        )
        checkpoints.save(int(state.step), state.as_dict(), metadata=metadata, score=score)
    write_json(workdir / "config.json", {"recipe": recipe.name} | to_dict(config))


@contextlib.contextmanager
def settings_of(source: pathlib.Path, config_type: type) -> Iterator[None]:
    """Names file and field where the settings of a PyTorch run are none to go on with."""
    with naming(source):
        try:
            yield
        except FieldError as error:
            raise ValueError(f"its setting {located(error, config_type)}") from error


def history_entry(
    epoch: int, step: int, train: Mapping[str, Any], val: Mapping[str, Any]
) -> dict[str, Any]:
    """One epoch of a run's history, of which only metrics are known."""
    return {
        "epoch": epoch,
        "step": step,
        "train": dict(train),
        "val": dict(val),
        "hparams": {},
        "seconds": 0.0,
    }


def last_entry(trained: Trained) -> dict[str, Any]:
    """The history's entry of the checkpoint's own epoch; epoch 0 without metrics if none is."""
    entries = [e for e in trained.metadata["history"] if e["step"] <= trained.step]
    return entries[-1] if entries else {"epoch": 0, "train": None, "val": None}


def imported_state(
    recipe: Recipe,
    config: RunConfig,
    params: Any,
    batch_stats: Any,
    *,
    adam: optax.ScaleByAdamState | None = None,
    scheduler: Mapping[str, Any] | None = None,
) -> TrainState:
    """The state of a run that goes on with these weights.

    Args:
      recipe: made from the config.
      config: the run's.
      params: arrays of the network.
      batch_stats: its statistics.
      adam: moments, taken where the run keeps any, and their count, which is its step.
      scheduler: the state of PyTorch's; nothing is taken of one that only counts.

    Raises:
      ConversionError: the scheduler stands at what is no number.
    """
    variables = jax.tree.map(jnp.asarray, (params, batch_stats))
    ready = dataclasses.replace(recipe, init=lambda key: variables)
    state = create_state(ready, jax.random.key(config.seed))
    if adam is not None:
        count = jnp.int32(adam.count)
        moments = {
            name: _where_kept(optax.tree.get(state.opt_state, name), getattr(adam, name))
            for name in ("mu", "nu")
        }
        opt_state = optax.tree.set(state.opt_state, count=count, **moments)
        state = state.replace(step=jnp.int32(adam.count), opt_state=opt_state)
    if scheduler and is_plateau(scheduler):
        state = state.replace(plateau=plateau_from_torch(scheduler, state.plateau))
    return state


def scheduler_config(
    scheduler: Mapping[str, Any],
    *,
    monitor: str = "loss",
    warmup_rate: float = 0.0,
    unused: PlateauConfig | None = None,
) -> tuple[dict[str, Any], PlateauConfig]:
    """The fields of `optim`, and the plateau, of a run that goes on under PyTorch's scheduler.

    Args:
      scheduler: its state.
      monitor: what a plateau watches.
      warmup_rate: that a warm-up began with.
      unused: the plateau's settings where the scheduler is another; the defaults if None.

    Raises:
      ConversionError: values that are absent, of another type or out of bounds.
    """
    if is_plateau(scheduler):
        settings = plateau_settings(scheduler)
        lowest = lowest_rate(scheduler)
        plateau = PlateauConfig(**settings, monitor=monitor)
        return {"schedule": "plateau", "min_learning_rate": lowest}, plateau
    schedule = EpochSchedule.from_torch(scheduler, warmup_rate=warmup_rate)
    return {"schedule": schedule.text, "min_learning_rate": 0.0}, unused or PlateauConfig()


def optimizer_of(
    trained: Trained, rules: Sequence[Rule], *, initial_rate: float | None = None
) -> dict[str, Any] | None:
    """The state of PyTorch's AdamW, where the optimizer is AdamW over every parameter as in the
    originals; arguments as those of `adam_to_torch`.
    """
    config, state = trained.config.optim, trained.state
    parted = config.frozen or trained.recipe.later_stages or optax.tree.get(state.opt_state, "late")
    if config.optimizer != "adamw" or parted:
        return None
    hparams = trained.hparams
    names = ("learning_rate", "b1", "b2", "eps", "weight_decay")
    rates = {name: decimal(hparams[name]) for name in names}
    return adam_to_torch(state.opt_state, rates, rules, state.params, initial_rate=initial_rate)


def scheduler_of(trained: Trained, epoch: int) -> dict[str, Any] | None:
    """The state of PyTorch's scheduler after `epoch` epochs, where it has such a one."""
    if schedule := EpochSchedule.of(trained.recipe.hparams["learning_rate"]):
        rate = decimal(trained.hparams["learning_rate"])
        return schedule.to_torch(epoch=epoch, learning_rate=rate)
    plateau = trained.recipe.plateau
    return plateau_to_torch(plateau, trained.state.plateau, epoch=epoch) if plateau else None


def is_averaged(trained: Trained, weights: Weights) -> bool:
    """Whether these weights are averages, with which no optimizer goes on."""
    return trained.recipe.ema and weights != "raw"


def write_torch(
    trained: Trained, target: pathlib.Path, content: Mapping[str, Any], *, weights: Weights
) -> None:
    """Writes PyTorch's file, and its folder, with the `content` that was made of a run."""
    target.parent.mkdir(parents=True, exist_ok=True)
    save_torch(target, content)
    kind = "averaged" if is_averaged(trained, weights) else "raw"
    _log.info("%s: %s weights of step %d", target, kind, trained.step)


def host(tree: Any) -> Any:
    """The tree with numpy arrays."""
    return jax.tree.map(np.asarray, tree)


def _where_kept(kept: Any, moments: Any) -> Any:
    """`moments` in the structure of `kept`, which may leave some out or have more."""
    if isinstance(kept, Mapping):
        return {
            name: _where_kept(branch, moments[name]) if name in moments else branch
            for name, branch in kept.items()
        }
    return kept if isinstance(kept, optax.MaskedNode) else jnp.asarray(moments)
