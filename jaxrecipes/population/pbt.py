"""Population based training: bad members continue from good ones with changed hyperparameters.

Source: Jaderberg et al., "Population Based Training of Neural Networks", 2017 (truncation
selection, perturbation).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np

from jaxrecipes import schedules
from jaxrecipes.schedules import Schedule
from jaxrecipes.train.state import TrainState


@dataclasses.dataclass(frozen=True)
class Move:
    """One member that continues from another one.

    Attributes:
      step: training steps after which it happened.
      member: who changed.
      source: whose weights, moments, averages, plateau, key and order of data it took.
      factors: by which each hyperparameter of the source was multiplied.
    """

    step: int
    member: int
    source: int
    factors: Mapping[str, float]


def exploit(
    scores: np.ndarray,
    rng: np.random.Generator,
    *,
    mode: Literal["min", "max"],
    share: float = 0.25,
    active: np.ndarray | None = None,
) -> dict[int, int]:
    """Truncation selection: each member of the worst share takes over one of the best share.

    Args:
      scores: `[N]`; NaN is worse than any number.
      rng: draws who is taken over; the result is a function of its state.
      mode: whether lower or higher is better.
      share: above 0 and at most 0.5.
      active: `[N]` bool, the members that take part; all by default.

    Returns:
      member -> the member that it copies.

    Raises:
      ValueError: a share out of bounds.
    """
    if not 0 < share <= 0.5:
        raise ValueError(f"share is {share}; expected 0 < share <= 0.5")
    lower = np.asarray(scores, np.float64) * (1.0 if mode == "min" else -1.0)
    lower = np.where(np.isnan(lower), np.inf, lower)
    members = np.arange(len(lower)) if active is None else np.flatnonzero(active)
    ranked = members[np.argsort(lower[members], kind="stable")]
    count = int(len(ranked) * share)
    best, worst = ranked[:count], ranked[len(ranked) - count :]
    return {int(member): int(rng.choice(best)) for member in sorted(worst)}


def explore(
    names: Sequence[str],
    rng: np.random.Generator,
    *,
    factors: Sequence[float] = (0.8, 1.25),
) -> dict[str, float]:
    """A factor for each hyperparameter, drawn from `factors`."""
    return {name: float(rng.choice(factors)) for name in names}


def with_factors(
    hparams: Mapping[str, Schedule], names: Sequence[str], *, factor: float = 1.0
) -> dict[str, Schedule]:
    """The hyperparameters, some of them times a factor that `scaled` can change later.

    All members of a population need this form from the start: it is part of the structure of their
    states. A factor of 1 changes no bit of a value.

    Raises:
      ValueError: there is no hyperparameter of such a name.
    """
    unknown = [name for name in names if name not in hparams]
    if unknown:
        raise ValueError(f"no hyperparameter is called {unknown[0]!r}; known: {sorted(hparams)}")
    return {
        name: schedules.scale(schedule, schedules.constant(factor)) if name in names else schedule
        for name, schedule in hparams.items()
    }


def scaled(state: TrainState, products: Mapping[str, float]) -> TrainState:
    """The state with these factors on its hyperparameters, see `with_factors`.

    Args:
      state: of one member; not donated.
      products: of all factors since the founder, as Python floats.
    """
    changed = {
        name: dataclasses.replace(
            state.hparams[name],
            numbers=state.hparams[name].numbers
            | {"factor": schedules.constant(jnp.float32(product))},
        )
        for name, product in products.items()
    }
    return state.replace(hparams=state.hparams | changed)
