"""Dropout and stochastic depth with a traced rate, which a schedule may change."""

import jax
from flax import linen as nn
from jax import numpy as jnp

Rate = float | jax.Array


def is_static_zero(rate: Rate) -> bool:
    """Whether a rate is the Python number 0, and so known to be zero when the program is traced."""
    return isinstance(rate, int | float) and rate == 0


def _random_uint16(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Random uint16 numbers, two from each random word, because drawing words dominates the cost of
    dropout on CPU.
    """
    *leading, last = shape or (1,)
    words = jax.random.bits(key, (*leading, -(-last // 2)), jnp.uint32)
    halves = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(*leading, -1)
    return halves[..., :last].reshape(shape)


def _drop(key: jax.Array, x: jax.Array, rate: Rate, mask_shape: tuple[int, ...]) -> jax.Array:
    drawn = _random_uint16(key, mask_shape).astype(jnp.float32)
    keep = drawn >= 2.0**16 * jnp.asarray(rate, jnp.float32)
    scale = jnp.where(jnp.less(rate, 1.0), 1.0 / jnp.maximum(1.0 - rate, 1e-6), 0.0)
    return x * jnp.where(keep, jnp.float32(scale), 0.0).astype(x.dtype)


def dropout(key: jax.Array, x: jax.Array, rate: Rate) -> jax.Array:
    """Zeroes each element with probability `rate` and scales the others by 1 / (1 - rate).

    The probability is `rate`, rounded up to a multiple of 2^-16.

    Args:
      key: PRNG key.
      x: any shape, floating.
      rate: scalar in [0, 1], traced or not. At 0 the result is `x`, at 1 it is all zeros; the
        gradient is finite at both.

    Returns:
      The shape and dtype of `x`.
    """
    return _drop(key, x, rate, x.shape)


def drop_path(key: jax.Array, x: jax.Array, rate: Rate) -> jax.Array:
    """Stochastic depth: zeroes whole samples (axis 0) with probability `rate`, scales the others.

    Like `torchvision.ops.stochastic_depth(mode="row")` (Huang et al., 2016). `rate` as in
    `dropout`.
    """
    return _drop(key, x, rate, (x.shape[0],) + (1,) * (x.ndim - 1))


class Dropout(nn.Module):
    """`dropout` with the key of the stream "dropout"; `rate` is an argument of the call.

    Nothing is drawn when `train` is false or when `rate` is a Python zero.
    """

    def __call__(self, x: jax.Array, rate: Rate, *, train: bool) -> jax.Array:
        key = self.key(rate, train=train)
        return x if key is None else dropout(key, x, rate)

    def key(self, rate: Rate, *, train: bool) -> jax.Array | None:
        """What the call draws with; None where it draws nothing."""
        if not train or is_static_zero(rate):
            return None
        return self.make_rng("dropout")


class DropPath(nn.Module):
    """`drop_path` with the key of the stream "dropout"; `rate` is an argument of the call.

    Nothing is drawn when `train` is false or when `rate` is a Python zero.
    """

    @nn.compact
    def __call__(self, x: jax.Array, rate: Rate, *, train: bool) -> jax.Array:
        if not train or is_static_zero(rate):
            return x
        return drop_path(self.make_rng("dropout"), x, rate)
