"""The end of a run: its best weights, evaluated, and its summary."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxrecipes import sharding
from jaxrecipes.checkpoint import CheckpointManager
from jaxrecipes.train.evaluate import Evaluation
from jaxrecipes.train.recipe import Recipe
from jaxrecipes.train.run_data import RunData
from jaxrecipes.train.state import TrainState
from jaxrecipes.train.step import current_hparams


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finished:
    """How a run ended: its summary, the best weights, the passes over val and test with them, and
    whether SIGINT or SIGTERM came too late to stop it, so that nothing should follow.
    """

    summary: dict[str, Any]
    params: Any
    batch_stats: Any
    hparams: dict[str, jax.Array]
    val: Evaluation | None
    test: Evaluation | None
    interrupted: bool = False


def with_weights(
    recipe: Recipe, state: TrainState, checkpoints: CheckpointManager, step: int, position: int
) -> TrainState:
    """`state` at `position`, with the weights of the checkpoint `step`."""
    # Its hyperparameters stay: those of an earlier config may be of another structure.
    names = ["params", "batch_stats"]
    names += ["ema_params", "ema_batch_stats"] if recipe.ema else []
    wanted = {name: getattr(state, name) for name in names}
    restored = checkpoints.restore(wanted, step=step, partial=True)
    assert restored is not None
    at = jax.device_put(np.int32(position), state.step.sharding)
    return state.replace(step=at, **restored.tree)


def bytes_per_device(state: TrainState) -> dict[str, int]:
    """How much of the state lies on each device (on the fullest one): parameters, the optimizer's
    moments, averages.
    """
    parts = {
        "params": state.params,
        "optimizer": state.opt_state,
        "averages": (state.ema_params, state.ema_batch_stats),
    }
    return {name: max(sharding.bytes_per_device(part).values()) for name, part in parts.items()}


def evaluate_best(
    recipe: Recipe,
    state: TrainState,
    data: RunData,
    validate: Callable[..., tuple[dict[str, float], Evaluation]],
    *,
    step: int,
    history: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
) -> Finished:
    """Evaluates the best state, that of `step`, on val and test; `facts` of the run go into the
    summary as they are.
    """
    val = validate(state, data.val)[1] if data.val else None
    test_metrics, test = validate(state, data.test) if data.test else ({}, None)
    by_step = {entry["step"]: entry for entry in history}
    summary = {
        "best": _outcome(by_step[step]),
        "final": _outcome(history[-1]),
        "test": test_metrics,
        **facts,
        "seconds": round(sum(entry["seconds"] for entry in history), 3),
        "num_params": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
    }
    averaged = recipe.ema
    return Finished(
        summary=summary,
        params=state.ema_params if averaged else state.params,
        batch_stats=state.ema_batch_stats if averaged else state.batch_stats,
        hparams=current_hparams(recipe, state),
        val=val,
        test=test,
    )


def _outcome(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An epoch's metrics: those of validation, or of training without a validation split."""
    return {"epoch": entry["epoch"], "step": entry["step"], **(entry["val"] or entry["train"])}
