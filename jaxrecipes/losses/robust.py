"""Absolute errors whose gradient at an exact zero is zero."""

import jax
import jax.numpy as jnp

Array = jax.Array


def absolute(x: Array) -> Array:
    """`|x|`, any shape; its gradient at 0 is 0, as in PyTorch, whereas that of `jnp.abs` is 1."""
    return jnp.sign(x) * x


def robust_l1(x: Array, *, delta: Array | float) -> Array:
    """`|x|` up to `delta`, beyond it `delta * (1 + log1p((|x| - delta) / delta))`.

    Value and slope are continuous at `delta`; beyond it the slope is `delta / |x|`.

    Args:
      x: errors, any shape.
      delta: in the unit of `x`, above 0; may be traced.

    Returns:
      The shape of `x`, not reduced; finite gradients everywhere, 0 at 0.
    """
    size = absolute(x)
    inside = size < delta
    excess = jnp.where(inside, 0.0, size - delta)  # log1p(-1) would make the gradient at 0 NaN
    return jnp.where(inside, size, delta * (1.0 + jnp.log1p(excess / delta)))
