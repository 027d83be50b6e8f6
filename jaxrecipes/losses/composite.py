"""A loss composed of named terms, each with a weight that is a hyperparameter."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxrecipes.errors import nearest

Array = jax.Array
_WEIGHT = "loss_weight/"


def composite_loss(
    terms: Mapping[str, Array], hparams: Mapping[str, Array | float], *, mask: Array | None = None
) -> tuple[Array, dict[str, Array]]:
    """The weighted sum of the terms' means.

    Args:
      terms: by name, `[B]` per-example losses, or scalars (such as regularisers), which are not
        averaged.
      hparams: must hold the weight of every term as `loss_weight/NAME`, a scalar that may be
        traced, even if it is 1.
      mask: `[B]`, 1 = keep; masked examples do not count. An empty mask gives 0.

    Returns:
      the total, a float32 scalar, and a log of float32 scalars: each term's unweighted mean as
      `loss/NAME`, and the total as `loss`.

    Raises:
      ValueError: no terms, a term without a weight, or one that is neither `[B]` nor a scalar.
    """
    if not terms:
        raise ValueError("expected at least one loss term, got none")
    total = jnp.zeros((), jnp.float32)
    log = {}
    for name, values in terms.items():
        mean = _mean(name, values, mask)
        total += _weight(name, hparams) * mean
        log[f"loss/{name}"] = mean
    return total, log | {"loss": total}


def term_names(hparams: Mapping[str, Any]) -> list[str]:
    """The names of the terms that have a weight."""
    return [name.removeprefix(_WEIGHT) for name in hparams if name.startswith(_WEIGHT)]


def _mean(name: str, values: Array, mask: Array | None) -> Array:
    values = jnp.asarray(values, jnp.float32)
    if values.ndim > 1:
        raise ValueError(f"loss term {name!r}: expected [B] or a scalar, got shape {values.shape}")
    if values.ndim == 0 or mask is None:
        return values.mean()
    if mask.shape != values.shape:
        raise ValueError(f"loss term {name!r} has shape {values.shape}, the mask {mask.shape}")
    mask = mask.astype(jnp.float32)
    count = mask.sum()
    kept = jnp.where(mask > 0, values * mask, 0.0).sum()
    return kept / jnp.where(count > 0, count, 1.0)


def _weight(name: str, hparams: Mapping[str, Array | float]) -> Array | float:
    key = f"{_WEIGHT}{name}"
    if key in hparams:
        return hparams[key]
    weights = [f"{_WEIGHT}{known}" for known in term_names(hparams)]
    close = nearest(key, weights)
    hint = f"did you mean {close!r}?" if close else f"the weights there are: {weights or 'none'}"
    raise ValueError(f"hparams has no {key!r} for the loss term {name!r}; {hint}")
