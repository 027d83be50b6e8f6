"""The similarity transform (scale, rotation, translation) that best aligns one set of points with
another.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxrecipes.broadcasting import aligned

_HIGHEST = jax.lax.Precision.HIGHEST


class Similarity(NamedTuple):
    """A map of points, `scale * rotation @ point + translation`.

    Attributes:
      scale: `[...]`, not negative.
      rotation: `[..., 3, 3]`, never a reflection.
      translation: `[..., 3]`.
    """

    scale: Array
    rotation: Array
    translation: Array

    def __call__(self, points: ArrayLike) -> Array:
        """`[..., N, 3]` points, mapped."""
        turned = jnp.einsum("...ij,...nj->...ni", self.rotation, points, precision=_HIGHEST)
        return self.scale[..., None, None] * turned + self.translation[..., None, :]


def similarity(
    source: ArrayLike, target: ArrayLike, *, mask: ArrayLike | None = None
) -> Similarity:
    """The similarity transform that best aligns `source` with `target` in the least-squares sense.

    Args:
      source: `[..., N, 3]`.
      target: `[..., N, 3]`.
      mask: `[..., N]`, 1 = use the point; None: use all.

    Returns:
      `Similarity`. Its scale is 0 if all points of `source` coincide, or no point is used.

    Raises:
      ValueError: the shapes differ or do not end in 3.

    Source: Umeyama, "Least-squares estimation of transformation parameters between two point
    patterns", 1991.
    """
    source, target = jnp.asarray(source), jnp.asarray(target)
    if source.shape != target.shape or source.ndim < 2 or source.shape[-1] != 3:
        raise ValueError(
            f"expected two equal shapes [..., N, 3], got {source.shape} and {target.shape}"
        )
    weights = jnp.asarray(np.ones(source.shape[:-1]) if mask is None else mask, source.dtype)
    weights = weights[..., None] / jnp.maximum(weights.sum(-1), 1e-12)[..., None, None]
    source_mean = jnp.sum(weights * source, -2, keepdims=True)
    target_mean = jnp.sum(weights * target, -2, keepdims=True)
    x, y = source - source_mean, target - target_mean

    covariance = jnp.einsum("...ni,...nj->...ij", weights * y, x, precision=_HIGHEST)
    left, singular, right = jnp.linalg.svd(covariance)
    mirrored = jnp.linalg.det(left) * jnp.linalg.det(right) < 0
    last = aligned(jnp.arange(3, dtype=jnp.int32) == 2, singular)
    signs = jnp.where(mirrored[..., None] & last, -1.0, jnp.ones_like(singular))
    rotation = jnp.matmul(left * signs[..., None, :], right, precision=_HIGHEST)
    spread = jnp.sum(weights * x * x, (-2, -1))
    matched = jnp.sum(singular * signs, -1)
    scale = jnp.where(spread > 0, matched / jnp.where(spread > 0, spread, 1.0), 0.0)
    placed = Similarity(scale, rotation, jnp.zeros_like(target_mean[..., 0, :]))(source_mean)
    return Similarity(scale, rotation, (target_mean - placed)[..., 0, :])


def procrustes_align(
    source: ArrayLike, target: ArrayLike, *, mask: ArrayLike | None = None
) -> Array:
    """`[..., N, 3]`: `source` after the best `similarity` onto `target`; arguments as there."""
    return similarity(source, target, mask=mask)(source)
