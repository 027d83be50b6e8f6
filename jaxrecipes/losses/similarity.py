"""Similarity of vectors: cosines and squared errors, per example, in float32."""

import jax
import jax.numpy as jnp

Array = jax.Array


def unit(x: Array, *, axis: int = -1, eps: float = 1e-12) -> Array:
    """`x / max(norm(x), eps)` along one axis; a zero vector stays zero and has no gradient.

    Args:
      x: `[..., D]`; computed in float32.
      axis: the axis of the vectors' components.
      eps: the smallest norm to divide by.

    Returns:
      `[..., D]` float32.

    Source: torch.nn.functional.normalize, whose gradient at a zero vector is 1 / eps.
    """
    x = x.astype(jnp.float32)
    square = jnp.sum(x * x, axis=axis, keepdims=True)
    some = square > 0
    norm = jnp.sqrt(jnp.where(some, square, 1.0))
    return x * jnp.where(some, 1.0 / jnp.maximum(norm, eps), 0.0)


def cosine_similarity(x: Array, y: Array, *, eps: float = 1e-8) -> Array:
    """The cosine of the angle between two vectors; 0 where one of them is zero.

    Args:
      x: `[..., D]`.
      y: `[..., D]`.
      eps: lower bound of each norm.

    Returns:
      `[...]` float32.

    Raises:
      ValueError: the shapes differ.

    Source: torch.nn.functional.cosine_similarity.
    """
    _check_shapes(x, y)
    return jnp.sum(unit(x, eps=eps) * unit(y, eps=eps), axis=-1)


def cosine_loss(pred: Array, target: Array) -> Array:
    """`1 - cosine`, in [0, 2].

    Args:
      pred: `[..., D]`.
      target: `[..., D]`.

    Returns:
      `[...]` float32, not reduced.

    Raises:
      ValueError: the shapes differ.
    """
    return 1.0 - cosine_similarity(pred, target, eps=1e-12)


def mean_squared_error(pred: Array, target: Array) -> Array:
    """The mean of the squared differences over the last axis.

    Args:
      pred: `[..., D]`.
      target: `[..., D]`.

    Returns:
      `[...]` float32, not reduced.

    Raises:
      ValueError: the shapes differ.
    """
    _check_shapes(pred, target)
    return jnp.mean((pred.astype(jnp.float32) - target.astype(jnp.float32)) ** 2, axis=-1)


def _check_shapes(x: Array, y: Array) -> None:
    if x.shape != y.shape:
        raise ValueError(f"expected two arrays of equal shape, got {x.shape} and {y.shape}")
