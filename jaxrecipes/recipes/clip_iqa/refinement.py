"""The refinement of clip_iqa's traditional heads: a transformer on a single token."""

import jax
from flax import linen as nn
from jax import numpy as jnp

from jaxrecipes.nn import (
    Dropout,
    LayerNorm,
    Linear,
    Rate,
    gelu,
)
from jaxrecipes.nn.initializers import uniform_fan_in
from jaxrecipes.nn.single_key_attention import SingleKeyAttention


def dense(x: jax.Array, features: int, name: str) -> jax.Array:
    """A linear layer that starts uniform in +-1/sqrt(inputs), its bias too."""
    init = uniform_fan_in(x.shape[-1])
    return Linear(features, kernel_init=init, bias_init=init, name=name)(x)


class RefinementLayer(nn.Module):
    """`torch.nn.TransformerEncoderLayer(activation="gelu")`, normalised after each part, on one
    token; the feed-forward part is twice as wide.
    """

    num_heads: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, dropout_rate: Rate) -> jax.Array:
        """`[B, C] -> [B, C]`."""
        width = x.shape[-1]
        attention = SingleKeyAttention(
            self.num_heads, out_init=uniform_fan_in(width), name="self_attn"
        )
        y = attention(x, train=train, dropout_rate=dropout_rate)
        x = LayerNorm(name="norm1")(x + Dropout()(y, dropout_rate, train=train))
        y = gelu(dense(x, 2 * width, "linear1"))
        y = dense(Dropout()(y, dropout_rate, train=train), width, "linear2")
        return LayerNorm(name="norm2")(x + Dropout()(y, dropout_rate, train=train))


class Refinement(nn.Module):
    """A correction of the consistency, within a learned scale that starts at 0.1.

    The layers of the original start as copies of one; see `ClipIqa.init_params`.

    Attributes:
      num_layers: transformer layers.
      num_heads: must divide the width.
      width: of the token.
    """

    num_layers: int
    num_heads: int
    width: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, dropout_rate: Rate) -> jax.Array:
        """`[B, 2d + 1]`, embeddings and the score so far, to what is added to it, `[B]`."""
        scale = self.param("residual_scale", nn.initializers.constant(0.1), (), jnp.float32)
        x = gelu(LayerNorm(name="input_norm")(dense(x, self.width, "input_proj")))
        for i in range(self.num_layers):
            layer = RefinementLayer(self.num_heads, name=f"layers_{i}")
            x = layer(x, train=train, dropout_rate=dropout_rate)
        x = gelu(dense(LayerNorm(name="head_norm")(x), self.width // 2, "head1"))
        x = dense(Dropout()(x, dropout_rate, train=train), 1, "head2")[:, 0]
        return scale * jnp.tanh(x)
