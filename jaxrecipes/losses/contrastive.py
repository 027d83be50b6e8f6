"""InfoNCE: a row's similarity to the rows of its class, relative to its similarity to all rows."""

import jax
import jax.numpy as jnp

from jaxrecipes.losses.similarity import unit

Array = jax.Array

# Added to the positives' sum and to the negatives', as in the original.
_EPS = 1e-8


def info_nce(
    features: Array,
    labels: Array,
    *,
    temperature: Array | float,
    mask: Array | None = None,
    exclude_self: bool = False,
) -> Array:
    """The mean over rows of `-log(positives / all)`, both being sums of `exp(cosine /
    temperature)`.

    Positives are the other rows of the same label. For the row itself the original subtracts 1 from
    the sum over all rows, although the row contributes `exp(1 / temperature)`: the rest, 22025 at a
    temperature of 0.1, stays in the denominator and keeps the loss above log((m + 1) / m) for m
    positives. Rows without a positive do not count; without any such row the loss is 0, and so is
    its gradient.

    Computed from logarithms of sums: finite at any temperature above 0.

    Args:
      features: `[B, D]`, of any nonzero length.
      labels: `[B]` integers; only equality matters.
      temperature: above 0; may be traced.
      mask: `[B]`, 1 = keep; other rows are neither anchors nor compared with.
      exclude_self: leave the row itself out of the denominator, as in the literature.

    Returns:
      A float32 scalar.

    Raises:
      ValueError: the shapes do not fit.

    Source: van den Oord et al. 2018, arXiv:1807.03748; the denominator as the universal face
    original has it.
    """
    rows = features.shape[0]
    keep = jnp.ones(rows, bool) if mask is None else mask > 0
    if features.ndim != 2 or labels.shape != (rows,) or keep.shape != (rows,):
        got = f"{features.shape}, {labels.shape}" + ("" if mask is None else f", {mask.shape}")
        raise ValueError(f"expected features [B, D], labels [B] and a mask [B] or none, got {got}")
    normal = unit(features)
    logits = jnp.matmul(normal, normal.T, precision=jax.lax.Precision.HIGHEST) / temperature
    self_pair = jnp.eye(rows, dtype=bool)
    both = keep[:, None] & keep[None, :]
    positive = both & ~self_pair & (labels[:, None] == labels[None, :])

    eps = jnp.full((rows, 1), jnp.log(jnp.float32(_EPS)))
    log_positives = _log_sum_exp(jnp.where(positive, logits, -jnp.inf), eps)
    # The rest of the row itself, with both epsilons, takes the place of the diagonal.
    left = (
        jnp.log(jnp.float32(2 * _EPS))
        if exclude_self
        else _log_expm1(jnp.where(self_pair, logits, 0.0).sum(1), plus=2 * _EPS)
    )
    others = jnp.where(both & ~self_pair, logits, -jnp.inf)
    log_all = _log_sum_exp(others, jnp.broadcast_to(left, (rows,))[:, None])

    counted = positive.any(axis=1)
    total = jnp.sum(jnp.where(counted, log_all - log_positives, 0.0))
    return total / jnp.maximum(counted.sum(dtype=jnp.float32), 1.0)


def _log_sum_exp(logits: Array, column: Array) -> Array:
    """Log-sum-exp over the logits of each row and one more, finite value."""
    return jax.nn.logsumexp(jnp.concatenate([logits, column], axis=1), axis=1)


def _log_expm1(x: Array, *, plus: float) -> Array:
    """`log(exp(x) - 1 + plus)` for x >= 0, without overflow."""
    return x + jnp.log(-jnp.expm1(-x) + plus * jnp.exp(-x))
