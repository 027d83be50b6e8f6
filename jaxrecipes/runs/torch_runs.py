"""What all recipes share to turn a PyTorch checkpoint into a run's folder, and a run into one."""

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrecipes import schedules
from jaxrecipes.bounds import bounds_of, wrong
from jaxrecipes.checkpoint import CheckpointManager
from jaxrecipes.config import to_dict
from jaxrecipes.convert.file_fields import naming
from jaxrecipes.convert.torch_optim import AdamState, PlateauNumbers
from jaxrecipes.fields import FieldError, NonNegative, located
from jaxrecipes.json_files import write_json
from jaxrecipes.locks import alone_in
from jaxrecipes.plateau import PlateauState
from jaxrecipes.runs.trained import Trained
from jaxrecipes.schedules import Schedule
from jaxrecipes.train import nonfinite
from jaxrecipes.train.config import PlateauConfig, RunConfig
from jaxrecipes.train.recipe import Recipe
from jaxrecipes.train.resume import checkpoint_folder, checkpoint_metadata
from jaxrecipes.train.state import TrainState
from jaxrecipes.train.timeline import Timeline


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


def with_variables(state: TrainState, params: Any, batch_stats: Any) -> TrainState:
    """The state with these weights."""
    params, batch_stats = jax.tree.map(jnp.asarray, (params, batch_stats))
    return state.replace(params=params, batch_stats=batch_stats)


def with_adam(state: TrainState, adam: AdamState) -> TrainState:
    """The state with these moments, where it keeps any, and their count as its step."""
    mu, nu = (
        _where_kept(optax.tree.get(state.opt_state, name), moments)
        for name, moments in (("mu", adam.mu), ("nu", adam.nu))
    )
    count = jnp.int32(adam.count)
    opt_state = optax.tree.set(state.opt_state, mu=mu, nu=nu, count=count)
    return state.replace(step=jnp.int32(adam.count), opt_state=opt_state)


def base_rate(config: RunConfig) -> float:
    """`optim.learning_rate` of a config that was made from a PyTorch run: a number."""
    assert isinstance(config.optim.learning_rate, int | float)
    return config.optim.learning_rate


def with_plateau(state: TrainState, plateau: PlateauNumbers, learning_rate: float) -> TrainState:
    """The state with this scheduler; `learning_rate` is what the run began with.

    Raises:
      ValueError: the scheduler's own rate or its best metric is no number that a run goes on from.
    """
    if problem := wrong(plateau.learning_rate, bounds_of(NonNegative), "learning_rate"):
        raise ValueError(f"the scheduler's learning_rate {problem}")
    if math.isnan(plateau.best):
        raise ValueError("the scheduler's best is nan; expected the best metric so far")
    return state.replace(
        plateau=PlateauState(
            learning_rate=jnp.float32(plateau.learning_rate),
            base_learning_rate=jnp.float32(learning_rate),
            best=jnp.float32(plateau.best),
            num_bad_epochs=jnp.int32(plateau.num_bad_epochs),
            cooldown_counter=jnp.int32(plateau.cooldown_counter),
        )
    )


def plateau_config(plateau: PlateauNumbers, *, monitor: str = "loss") -> PlateauConfig:
    """The config of a run that goes on under this scheduler; `optim.min_learning_rate` is its
    `min_lr`.
    """
    settings = plateau.settings
    return PlateauConfig(
        mode=settings["mode"],
        factor=settings["factor"],
        patience_epochs=settings["patience"],
        threshold=settings["threshold"],
        threshold_mode=settings["threshold_mode"],
        cooldown_epochs=settings["cooldown"],
        eps=settings["eps"],
        monitor=monitor,
    )


def adam_of(trained: Trained) -> AdamState | None:
    """The moments, where the optimizer is AdamW over every parameter as in the originals."""
    opt_state, hparams = trained.state.opt_state, trained.hparams
    frozen = trained.config.optim.frozen or trained.recipe.later_stages
    if trained.config.optim.optimizer != "adamw" or frozen or optax.tree.get(opt_state, "late"):
        return None
    names = ("learning_rate", "b1", "b2", "eps", "weight_decay")
    return AdamState(
        mu=host(_kept(optax.tree.get(opt_state, "mu"))),
        nu=host(_kept(optax.tree.get(opt_state, "nu"))),
        count=int(optax.tree.get(opt_state, "count")),
        hyperparams={name: decimal(hparams[name]) for name in names},
    )


def plateau_of(trained: Trained, epoch: int) -> PlateauNumbers | None:
    """The scheduler after `epoch` epochs, where it is a plateau."""
    recipe, state = trained.recipe, trained.state.plateau
    if recipe.plateau is None:
        return None
    return PlateauNumbers(
        settings=dataclasses.asdict(recipe.plateau),
        learning_rate=decimal(state.learning_rate),
        best=decimal(state.best),
        num_bad_epochs=int(state.num_bad_epochs),
        cooldown_counter=int(state.cooldown_counter),
        last_epoch=epoch,
    )


@dataclasses.dataclass(frozen=True)
class EpochWise:
    """A learning rate that moves between epochs: a warm-up, and what comes after it.

    Attributes:
      warmup_epochs: 0 for none.
      warmup_learning_rate: of the first epoch.
      after: a cosine or steps, counted in epochs.
    """

    warmup_epochs: int
    warmup_learning_rate: float
    after: Schedule


def epoch_schedule(trained: Trained) -> EpochWise | None:
    """How the learning rate of a run moves between epochs; None where it does not so."""
    schedule = trained.recipe.hparams["learning_rate"]
    if schedule.kind is not schedules.every:
        return None
    inner = schedule.numbers["schedule"]
    if inner.kind is not schedules.join:
        return EpochWise(0, 0.0, inner)
    rise, after = inner.numbers["schedules"]
    first = decimal(rise.numbers["start"]) if rise.kind is schedules.linear else 0.0
    return EpochWise(int(inner.numbers["boundaries"][0]), first, after)


def decimal(value: Any) -> float:
    """The shortest decimal that is this float32: 0.002, not 0.0020000000949949026."""
    return float(str(np.float32(value)))


def host(tree: Any) -> Any:
    """The tree with numpy arrays."""
    return jax.tree.map(np.asarray, tree)


def _where_kept(kept: Any, moments: Any) -> Any:
    """`moments` in the structure of `kept`, which may leave some out."""
    if isinstance(kept, Mapping):
        return {name: _where_kept(branch, moments[name]) for name, branch in kept.items()}
    return kept if isinstance(kept, optax.MaskedNode) else jnp.asarray(moments)


def _kept(moments: Mapping[str, Any]) -> dict[str, Any]:
    """The moments without the places of those that are not kept."""
    branches = {
        name: _kept(branch) if isinstance(branch, Mapping) else branch
        for name, branch in moments.items()
    }
    return {
        name: branch
        for name, branch in branches.items()
        if not isinstance(branch, optax.MaskedNode) and (not isinstance(branch, dict) or branch)
    }
