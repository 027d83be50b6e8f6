"""Attention over a single key, including the parameters that cannot affect the result."""

import jax
from flax import linen as nn
from flax.typing import Initializer
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.nn.dropout import Dropout, Rate
from jaxrecipes.nn.initializers import xavier_uniform
from jaxrecipes.nn.linear import Linear


class InertLinear(nn.Module):
    """The parameters of a linear layer that is never computed."""

    inputs: int
    features: int
    kernel_init: Initializer = xavier_uniform()
    bias_init: Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self) -> None:
        self.param("kernel", self.kernel_init, (self.inputs, self.features), jnp.float32)
        self.param("bias", self.bias_init, (self.features,), jnp.float32)


class SingleKeyAttention(nn.Module):
    """`torch.nn.MultiheadAttention` over a single key: `out_proj(value(source))`.

    A softmax over one key is 1, so queries and keys cannot affect the result. Their parameters,
    `query_key`, exist only for loading and saving, and never get a gradient.

    Dropout of the attention probabilities acts on one weight per sample and head: it zeroes a whole
    head, or scales it by 1 / (1 - rate).

    Attributes:
      num_heads: must divide the channels.
      out_init: initialiser of the output projection's kernel.
      dtype: of the computation; parameters stay float32.
    """

    num_heads: int
    out_init: Initializer = xavier_uniform()
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, source: jax.Array, *, train: bool, dropout_rate: Rate) -> jax.Array:
        """`[B, C] -> [B, C]`; `source` is what keys and values are made of."""
        batch, channels = source.shape
        # In the original this is one matrix [C, 3C] and is initialised as such: within sqrt(6 / (C
        # + 3C)).
        in_init = nn.initializers.variance_scaling(0.5, "fan_in", "uniform")  # +-sqrt(6 / (C + 3C))
        InertLinear(channels, 2 * channels, in_init, name="query_key")()
        value = Linear(channels, kernel_init=in_init, dtype=self.dtype, name="value")(source)
        weight = jnp.ones((batch, self.num_heads, 1), self.dtype)
        weight = Dropout()(weight, dropout_rate, train=train)
        mixed = (value.reshape(batch, self.num_heads, -1) * weight).reshape(batch, channels)
        return Linear(channels, kernel_init=self.out_init, dtype=self.dtype, name="out_proj")(mixed)
