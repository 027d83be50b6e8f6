"""Weights that make a loss emphasise hard examples and extreme angles.

An extension: the source documents propose both without giving a formula.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def difficulty_weights(
    cosine: Array,
    angle: Array,
    *,
    focal_gamma: Array | float,
    angle_kappa: Array | float,
    mask: Array | None = None,
) -> Array:
    """`((1 - cosine) / 2) ** focal_gamma * (1 + angle_kappa * min(|angle| / 90, 1))`, mean 1.

    If both are 0, every weight is exactly 1. No gradient flows through the weights.

    Args:
      cosine: `[B]`, between the prediction and its target.
      angle: `[B]` degrees.
      focal_gamma: at least 0; may be traced.
      angle_kappa: at least 0; may be traced.
      mask: `[B]`, 1 = keep; the mean is over those.

    Returns:
      `[B]` float32; all 1 if every product is 0.

    Raises:
      ValueError: the shapes differ.
    """
    if not cosine.shape == angle.shape == (cosine if mask is None else mask).shape:
        shapes = f"{cosine.shape} and {angle.shape}" + ("" if mask is None else f", {mask.shape}")
        raise ValueError(f"expected cosine, angle and mask of one shape [B], got {shapes}")
    error = jnp.maximum((1.0 - cosine.astype(jnp.float32)) / 2.0, 0.0)
    turned = jnp.minimum(jnp.abs(angle.astype(jnp.float32)) / 90.0, 1.0)
    factor = error**focal_gamma * (1.0 + angle_kappa * turned)
    keep = jnp.ones_like(factor) if mask is None else mask.astype(jnp.float32)
    mean = jnp.sum(jnp.where(keep > 0, factor * keep, 0.0)) / jnp.maximum(keep.sum(), 1.0)
    some = mean > 0
    return jax.lax.stop_gradient(jnp.where(some, factor / jnp.where(some, mean, 1.0), 1.0))
