"""Successive halving: the worse part of a population stops at fixed epochs.

Source: Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter
Optimization", 2016.
"""

from typing import Literal

import numpy as np


def rungs(min_epochs: int, max_epochs: int, *, eta: int) -> tuple[int, ...]:
    """The epochs after which a part stops: min_epochs, then eta times as many, below max_epochs.

    Raises:
      ValueError: `min_epochs` below 1, or `eta` below 2.
    """
    if min_epochs < 1 or eta < 2:
        raise ValueError(f"expected min_epochs >= 1 and eta >= 2; got {min_epochs} and {eta}")
    found = []
    while min_epochs < max_epochs:
        found.append(min_epochs)
        min_epochs *= eta
    return tuple(found)


def survivors(
    scores: np.ndarray, active: np.ndarray, *, eta: int, mode: Literal["min", "max"]
) -> np.ndarray:
    """Which members go on after a rung: of the active ones the best 1 / eta, at least one.

    Args:
      scores: `[N]` of the metric that selects; NaN is worse than any number.
      active: `[N]` bool, the members that still train.
      eta: of how many members one goes on.
      mode: whether lower or higher is better.

    Returns:
      `[N]` bool. Of equal scores the lower member's number is taken first, so the result does not
      depend on who finished first.
    """
    lower = np.asarray(scores, np.float64) * (1.0 if mode == "min" else -1.0)
    lower = np.where(np.isnan(lower), np.inf, lower)
    members = np.flatnonzero(active)
    best = members[np.argsort(lower[members], kind="stable")]
    going_on = np.zeros(len(lower), bool)
    going_on[best[: max(1, len(members) // eta) if len(members) else 0]] = True
    return going_on
