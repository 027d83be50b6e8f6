"""Cross entropy of a discretised coordinate against a Gaussian around its true value."""

import jax
import jax.numpy as jnp

from jaxrecipes.broadcasting import aligned

Array = jax.Array


def gaussian_target(value: Array, centers: Array, *, sigma: Array | float) -> Array:
    """A normal density at the centres of the bins, scaled to sum to 1.

    Args:
      value: `[...]` true coordinates, finite.
      centers: `[K]` centres of the bins, in the same unit.
      sigma: standard deviation in the same unit; may be traced. Use at least 0.7 times the spacing
        of the bins, or values between two bins have almost no target.

    Returns:
      `[..., K]` float32; all zero where `value` is far outside the bins.
    """
    value = value[..., None].astype(jnp.float32)
    distance = (value - aligned(jnp.asarray(centers, jnp.float32), value)) / sigma
    density = jnp.exp(-0.5 * distance * distance)
    return density / (density.sum(axis=-1, keepdims=True) + 1e-9)


def heatmap_cross_entropy(
    log_probs: Array, value: Array, centers: Array, *, sigma: Array | float
) -> Array:
    """`-sum_k q_k log p_k` with q the `gaussian_target` of `value`.

    Args:
      log_probs: `[..., K]`, normalised.
      value: `[...]`.
      centers: `[K]`.
      sigma: see `gaussian_target`.

    Returns:
      `[...]` float32, not reduced; 0, without a gradient, where the target is all zero.

    Raises:
      ValueError: the shapes do not fit.
    """
    if log_probs.shape != (*value.shape, *centers.shape):
        raise ValueError(
            f"expected log_probs [..., K] for values [...] and centers [K], got {log_probs.shape}, "
            f"{value.shape} and {centers.shape}"
        )
    target = gaussian_target(value, centers, sigma=sigma)
    return -jnp.sum(target * log_probs.astype(jnp.float32), axis=-1)
