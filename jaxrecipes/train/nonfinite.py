"""Checks that the numbers of a run are finite, and the messages for when they are not."""

import math
import pathlib
from collections.abc import Mapping

import numpy as np

from jaxrecipes.optim import leaves_by_path
from jaxrecipes.precision import first_nonfinite
from jaxrecipes.train.state import TrainState


class TrainingDivergedError(RuntimeError):
    """Too many steps in a row were not finite, or the state to be saved is not."""


def first_in(state: TrainState) -> str | None:
    """The path of the first array in a state that holds a NaN or an infinity; None if there is
    none.

    Weights, statistics, averages and the optimizer's arrays are checked. Scalars of the optimizer
    and of other state machines are not: a "best value so far" starts at infinity.
    """
    parts = {
        "params": state.params,
        "batch_stats": state.batch_stats,
        "ema_params": state.ema_params,
        "ema_batch_stats": state.ema_batch_stats,
    }
    moments = leaves_by_path(state.opt_state).items()
    parts |= {f"opt_state/{path}": leaf for path, leaf in moments if np.ndim(leaf)}
    return first_nonfinite(parts)


def check_start(state: TrainState, source: str) -> None:
    """Raises a ValueError if a state from `source` holds a NaN or an infinity."""
    found = first_in(state)
    if found is not None:
        raise ValueError(
            f"{source}: {found} holds a NaN or an infinity, which no training mends; start from "
            "other weights or an earlier checkpoint"
        )


def check_saved(state: TrainState, *, step: int, checkpoint: int | None) -> None:
    """Raises a TrainingDivergedError if a state that is to be saved holds a NaN or an infinity.

    Args:
      state: after `step` steps.
      step: the number shown to users.
      checkpoint: the step of the newest checkpoint, if there is one.
    """
    found = first_in(state)
    if found is not None:
        raise TrainingDivergedError(
            f"{found} holds a NaN or an infinity after step {step}, so this step is not saved. "
            f"{_newest(checkpoint)}. Lower optim.learning_rate or set optim.clip_norm; then give "
            "--allow_config_change to go on, or start anew"
        )


def skipped_message(
    values: Mapping[str, float],
    culprit: str,
    *,
    step: int,
    batch: pathlib.Path,
    checkpoint: int | None,
) -> str:
    """Why the last steps were skipped, and what to do.

    Args:
      values: what the last step logged.
      culprit: the first entry of `looked_at` that was not finite.
      step: the steps taken so far.
      batch: where the last step's batch was written.
      checkpoint: the step of the newest checkpoint, if there is one.
    """
    hparams = {
        name.removeprefix("hparams/"): value
        for name, value in values.items()
        if name.startswith("hparams/")
    }
    wrong = ", ".join(f"{n} {v}" for n, v in hparams.items() if not math.isfinite(v))
    if wrong:
        why = f"had hyperparameters that are not finite: {wrong}"
        cure = "Mend their values or schedules"
    elif culprit in ("loss", "grad_norm"):
        why = f"had a loss or gradients that were not finite (loss {values['loss']:.4g})"
        cure = "Lower optim.learning_rate, set optim.clip_norm, or look at that batch"
    elif culprit.startswith("batch_stats/"):
        why = f"would have made {culprit} infinite or NaN (loss {values['loss']:.4g})"
        cure = "Look for a number in that batch that is far too large"
    else:
        used = (f"{n} {hparams[n]:.4g}" for n in _OPTIMIZER if n in hparams)
        why = (
            f"would have made {culprit} infinite or NaN, although loss and gradients were finite "
            f"({', '.join(used)})"
        )
        cure = "Mend these hyperparameters"
    return (
        f"the last {int(values['num_skipped_in_row'])} steps up to step {step} {why}. Nothing was "
        f"updated by them. The batch of step {step - 1} is in {batch}. {_newest(checkpoint)}. "
        f"{cure}; then give --allow_config_change to go on, or start anew"
    )


_OPTIMIZER = ("learning_rate", "weight_decay", "b1", "b2", "eps", "momentum", "clip_norm")


def _newest(checkpoint: int | None) -> str:
    if checkpoint is None:
        return "There is no checkpoint yet"
    return f"The newest checkpoint, of step {checkpoint}, is finite"
