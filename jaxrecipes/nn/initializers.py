"""Initialisers with PyTorch's rules, as Flax initialisers `(key, shape, dtype) -> array`."""

import math

import jax
from flax.typing import Initializer
from jax import numpy as jnp

xavier_uniform = jax.nn.initializers.xavier_uniform
"""Uniform in +-sqrt(6 / (fan_in + fan_out)) for kernels `[fan_in, fan_out]`."""


def kaiming_normal_fan_out(fan_out: int) -> Initializer:
    """Normal with standard deviation sqrt(2 / fan_out).

    `fan_out` is out_channels * kernel height * kernel width, as torch counts it: not divided by the
    number of groups, so a depthwise kernel starts small.
    """
    return jax.nn.initializers.normal(math.sqrt(2.0 / fan_out))


def uniform_fan_in(fan_in: int) -> Initializer:
    """Uniform in +-1/sqrt(fan_in): torch's default for biases of convolutions."""
    bound = 1.0 / math.sqrt(fan_in)

    def init(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init
