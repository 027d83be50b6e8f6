"""Stage 2 of hand_pose: refines the token of each frame with those of earlier frames."""

from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.nn import Dropout, LayerNorm, Linear, Rate
from jaxrecipes.nn.initializers import uniform_fan_in
from jaxrecipes.recipes.hand_pose.blocks import FeedForward, TokenSelfAttention
from jaxrecipes.recipes.hand_pose.network_config import TemporalConfig


def rotary_frequencies(dim_head: int) -> jax.Array:
    """`[dim_head / 2]` radians per unit of position, 1 falling towards 1 / 10000."""
    return 10000.0 ** (-jnp.arange(0, dim_head, 2, dtype=jnp.float32) / dim_head)


class TemporalLayer(nn.Module):
    """`x += drop(self_attn(norm1(x)))`, then `x += mlp(norm2(x))`, which is twice as wide.

    Attributes:
      num_heads: must divide the channels.
      dtype: of the computation; parameters stay float32.
    """

    num_heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, angles: jax.Array, *, train: bool, dropout_rate: Rate
    ) -> jax.Array:
        """`[B, T, C] -> [B, T, C]`; `angles` as in `TokenSelfAttention`."""
        width, dtype = x.shape[-1], self.dtype
        rates: dict[str, Any] = {"train": train, "dropout_rate": dropout_rate}
        attention = TokenSelfAttention(
            self.num_heads, width // self.num_heads, dtype, name="self_attn"
        )
        y = LayerNorm(dtype=dtype, name="norm1")(x)
        y = attention(y, angles=angles, causal=True, **rates)
        x = x + Dropout()(y, dropout_rate, train=train)
        y = LayerNorm(dtype=dtype, name="norm2")(x)
        return x + FeedForward(2 * width, dtype, name="mlp")(y, **rates)


class TemporalRefiner(nn.Module):
    """Causal self-attention with time as the rotary position, and feed-forward parts.

    The result is the tokens plus a linear correction.

    Attributes:
      config: layers, heads and the unit of time.
      dtype: of the computation; parameters stay float32.
    """

    config: TemporalConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        timestamp: jax.Array,
        *,
        train: bool,
        dropout_rate: Rate = 0.0,
    ) -> jax.Array:
        """`[B, T, C] -> [B, T, C]`.

        Args:
          tokens: of the frames, in the order of time.
          timestamp: `[B, T]` ms.
          train: whether dropout acts.
          dropout_rate: of all dropouts: of attention probabilities, of the attention's output, and
            of both layers of the feed-forward part.
        """
        config, dtype = self.config, self.dtype
        width = tokens.shape[-1]
        # Attention depends only on differences of positions; large timestamps would be inexact.
        elapsed = (timestamp - timestamp[:, :1]) / config.trope_scalar
        angles = elapsed[..., None] * rotary_frequencies(width // config.heads)[None, None]
        x = tokens
        for i in range(config.layers):
            layer = TemporalLayer(config.heads, dtype, name=f"layers_{i}")
            x = layer(x, angles, train=train, dropout_rate=dropout_rate)
        zeros = nn.initializers.zeros_init()
        init = zeros if config.zero_linear else uniform_fan_in(width)
        return tokens + Linear(width, True, init, init, dtype, name="zero_linear")(x)
