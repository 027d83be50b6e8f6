"""What all recipes share to turn a PyTorch checkpoint into a run's folder, and back."""

import contextlib
import dataclasses
import logging
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from jaxrecipes.files import write_json
from jaxrecipes.locks import alone_in
from jaxrecipes.runs.trained import Trained, Weights
from jaxrecipes.train import nonfinite
from jaxrecipes.train.config import PlateauConfig, RunConfig
from jaxrecipes.train.recipe import DataInfo, Recipe
from jaxrecipes.train.resume import checkpoint_folder, checkpoint_metadata
from jaxrecipes.train.run_state import Timeline
from jaxrecipes.train.state import TrainState, create_state

_log = logging.getLogger("jaxrecipes")


@dataclasses.dataclass(frozen=True)
class ImportedRun:
    """A run that goes on from a PyTorch file; `imported_run` makes one.

    Attributes:
      source: the file.
      config: what the run goes on with.
      recipe: made from it.
      state: at the end of an epoch.
      epoch: the number of epochs that are done.
      steps_per_epoch: optimizer steps in an epoch.
    """

    source: pathlib.Path
    config: RunConfig
    recipe: Recipe
    state: TrainState
    epoch: int
    steps_per_epoch: int

    def with_state(self, **fields: Any) -> "ImportedRun":
        """The run with other values of these fields of the state."""
        return dataclasses.replace(self, state=self.state.replace(**fields))

    def entry(
        self, train: Mapping[str, Any] | None = None, val: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The history's entry of the last epoch, with its metrics as far as they are known."""
        return history_entry(self.epoch, int(self.state.step), train or {}, val or {})


def save_run(
    workdir: pathlib.Path,
    run: ImportedRun,
    *,
    history: list[dict[str, Any]] | None = None,
    score: float | None = None,
) -> None:
    """Makes the folder of an imported run.

    Args:
      workdir: the folder.
      run: what it holds.
      history: its epochs so far, see `history_entry`; None: the last one, without metrics.
      score: the value of `config.select_metric`, if known.

    Raises:
      ValueError: the folder already holds a run, or the state contains NaN or infinity.
    """
    config, step = run.config, int(run.state.step)
    nonfinite.check_start(run.state, "what the file holds")
    with (
        alone_in(workdir),
        CheckpointManager(checkpoint_folder(workdir), mode=config.select_mode) as checkpoints,
    ):
        if checkpoints.latest_step is not None:
            raise ValueError(f"{workdir} holds a run already; choose another --output")
        metadata = checkpoint_metadata(
            run.recipe,
            config,
            timeline=Timeline(steps_per_epoch=run.steps_per_epoch),
            history=history or [run.entry()],
            mid_epoch=False,
        )
        checkpoints.save(step, run.state.as_dict(), metadata=metadata, score=score)
    write_json(workdir / "config.json", {"recipe": run.recipe.name} | to_dict(config))
    _log.info("%s: epoch %d, step %d, now in %s", run.source, run.epoch, step, workdir)


@contextlib.contextmanager
def settings_of(source: pathlib.Path, config_type: type) -> Iterator[None]:
    """Names the file and the field if a PyTorch run has settings that cannot be continued with."""
    with naming(source):
        try:
            yield
        except FieldError as error:
            raise ValueError(f"its setting {located(error, config_type)}") from error


def history_entry(
    epoch: int, step: int, train: Mapping[str, Any], val: Mapping[str, Any]
) -> dict[str, Any]:
    """One epoch of a run's history, where only the metrics are known."""
    return {
        "epoch": epoch,
        "step": step,
        "train": dict(train),
        "val": dict(val),
        "hparams": {},
        "seconds": 0.0,
    }


def last_entry(trained: Trained) -> dict[str, Any]:
    """The history's entry for the checkpoint's epoch; epoch 0 without metrics if there is none."""
    entries = [e for e in trained.metadata["history"] if e["step"] <= trained.step]
    return entries[-1] if entries else {"epoch": 0, "train": None, "val": None}


def imported_run(
    source: pathlib.Path,
    config: RunConfig,
    make_recipe: Callable[[Any, DataInfo], Recipe],
    params: Any,
    batch_stats: Any,
    *,
    epoch: int = 0,
    adam: optax.ScaleByAdamState | None = None,
    scheduler: Mapping[str, Any] | None = None,
) -> ImportedRun:
    """A run that goes on with these weights.

    Args:
      source: the file that they are from.
      config: the run's.
      make_recipe: the recipe's own.
      params: arrays of the network.
      batch_stats: its statistics.
      epoch: the number of epochs that are done.
      adam: moments, taken where the run keeps any, and their count, which is its step.
      scheduler: the state of PyTorch's; nothing is taken of one that only counts.

    Raises:
      ConversionError: a value of the scheduler is not a number.
    """
    variables = jax.tree.map(jnp.asarray, (params, batch_stats))
    steps_per_epoch = max(1, round(int(adam.count) / max(1, epoch))) if adam else 1
    recipe = make_recipe(config, DataInfo(steps_per_epoch=steps_per_epoch))
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
    return ImportedRun(source, config, recipe, state, epoch, steps_per_epoch)


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
      unused: the plateau's settings if the scheduler is of another kind; None: the defaults.

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
    """The state of PyTorch's AdamW, or None unless the optimizer is AdamW over every parameter, as
    in the originals; arguments as those of `adam_to_torch`.
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
    """The state of PyTorch's scheduler after `epoch` epochs; None if it has no such scheduler."""
    if schedule := EpochSchedule.of(trained.recipe.hparams["learning_rate"]):
        rate = decimal(trained.hparams["learning_rate"])
        return schedule.to_torch(epoch=epoch, learning_rate=rate)
    plateau = trained.recipe.plateau
    return plateau_to_torch(plateau, trained.state.plateau, epoch=epoch) if plateau else None


def is_averaged(trained: Trained, weights: Weights) -> bool:
    """Whether these weights are averages, from which training cannot go on."""
    return trained.recipe.ema and weights != "raw"


def write_torch(
    trained: Trained, target: pathlib.Path, content: Mapping[str, Any], *, weights: Weights
) -> None:
    """Writes the `content` made from a run to a PyTorch file, whose folder is made if needed."""
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
