"""Where a run stands: made anew, or restored from its newest good checkpoint."""

import dataclasses
import logging
import pathlib
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxrecipes.checkpoint import CheckpointManager
from jaxrecipes.config import diff
from jaxrecipes.schedules import evaluate
from jaxrecipes.sharding import state_shardings
from jaxrecipes.train.recipe import Recipe
from jaxrecipes.train.stages import with_moments
from jaxrecipes.train.state import TrainState

_log = logging.getLogger("jaxrecipes")
_MOMENTS = "state/opt_state/"


@dataclasses.dataclass
class Position:
    """What a run carries along: the state, the metric sums of the epoch under way, and the history
    so far.
    """

    state: TrainState
    sums: Any
    history: list[dict[str, Any]]


def check_resumable(
    checkpoints: CheckpointManager,
    recipe: Recipe,
    config: dict[str, Any],
    *,
    allow_config_change: bool,
) -> tuple[int, bool] | None:
    """The step that the run would go on from and whether its config changed, or None for a new run.

    Raises:
      ValueError: the folder holds another recipe's run, or its config differs and no change was
        allowed.
    """
    step = checkpoints.newest_intact()
    if step is None:
        return None
    metadata = checkpoints.metadata(step)
    if metadata["recipe"] != recipe.name:
        raise ValueError(
            f"{checkpoints.directory} holds a run of the recipe {metadata['recipe']!r}, not of "
            f"{recipe.name!r}; choose another --workdir"
        )
    changes = diff(metadata["config"], config)
    if changes and not allow_config_change:
        raise ValueError(
            f"the run in {checkpoints.directory.parent} was started with another config:\n  "
            + "\n  ".join(changes)
            + "\nGive --allow_config_change to go on with the new one, or choose another --workdir"
        )
    if changes:
        _log.info("going on with a changed config:\n  %s", "\n  ".join(changes))
    return step, bool(changes)


def restore(
    checkpoints: CheckpointManager,
    recipe: Recipe,
    abstract_state: TrainState,
    empty_sums: Any,
    *,
    mesh: Mesh,
    step: int,
    config_changed: bool,
) -> Position:
    """The position at `step`; under a changed config the hyperparameters are the new config's.

    The moments are those of the parameters that are trained from here on, see `with_moments`.
    """
    saved = {path: leaf for path, leaf in checkpoints.shapes(step).items() if _MOMENTS in path}
    wanted = abstract_state.replace(opt_state=None)
    wanted = wanted.replace(hparams={}) if config_changed else wanted
    tree = saved | {"state": wanted}
    tree = jax.tree.map(_laid_out, tree, state_shardings(tree, mesh))
    if checkpoints.metadata(step)["mid_epoch"] and not config_changed:
        tree["sums"] = empty_sums
    restored = checkpoints.restore(tree, step=step, partial=config_changed)
    assert restored is not None
    state: TrainState = restored.tree["state"]
    if config_changed:
        state = _with_hparams(recipe, state)
    moments = {path.removeprefix(_MOMENTS): restored.tree[path] for path in saved}
    state = with_moments(recipe.stage_at(step), state, moments, mesh)
    return Position(state, restored.tree.get("sums", empty_sums), restored.metadata["history"])


def _with_hparams(recipe: Recipe, state: TrainState) -> TrainState:
    """The state under the recipe's own hyperparameters."""
    hparams = jax.tree.map(np.float32, dict(recipe.hparams))
    state = state.replace(hparams=hparams)
    if recipe.plateau is not None:
        base = evaluate(state.hparams, recipe.warmup_steps)["learning_rate"]
        plateau = dataclasses.replace(
            state.plateau, learning_rate=base * state.plateau.scale, base_learning_rate=base
        )
        state = state.replace(plateau=plateau)
    if recipe.early_stopping is not None:
        stopping = recipe.early_stopping.with_patience(state.early_stopping)
        state = state.replace(early_stopping=stopping)
    return state


def _laid_out(leaf: Any, sharding: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def save(
    checkpoints: CheckpointManager,
    position: Position,
    step: int,
    metadata: dict[str, Any],
    *,
    score: float | None,
) -> None:
    """Starts to save the position; the sums go along only in the middle of an epoch."""
    tree = {"state": position.state} | ({"sums": position.sums} if metadata["mid_epoch"] else {})
    # An epoch that was saved before its validation (a signal, a restart) is saved again with its
    # score.
    checkpoints.save(step, tree, metadata=metadata, score=score, replace=not metadata["mid_epoch"])


def checkpoint_metadata(
    recipe: Recipe,
    config: dict[str, Any],
    *,
    steps_per_epoch: int,
    history: list[dict[str, Any]],
    mid_epoch: bool,
) -> dict[str, Any]:
    """What is stored beside a checkpoint's arrays."""
    return {
        "recipe": recipe.name,
        "config": config,
        "steps_per_epoch": steps_per_epoch,
        "history": history,
        "mid_epoch": mid_epoch,
    }


def checkpoint_folder(workdir: pathlib.Path) -> pathlib.Path:
    """Where a run keeps its checkpoints."""
    return workdir / "checkpoints"
