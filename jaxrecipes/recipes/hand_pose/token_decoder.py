"""Tokens that attend to themselves and to a context, layer by layer."""

from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.nn import Dropout, LayerNorm, Rate
from jaxrecipes.recipes.hand_pose.blocks import (
    ContextAttention,
    FeedForward,
    TokenSelfAttention,
    dense,
)


class TokenDecoderLayer(nn.Module):
    """`x += self_attn(norm1(x))`, `x += cross_attn(norm2(x), context)`, `x += mlp(norm3(x))`.

    The context is not normalised.

    Attributes:
      num_heads: attention heads.
      dim_head: channels of a head.
      dim_mlp: hidden channels of the feed-forward part.
      dtype: of the computation; parameters stay float32.
    """

    num_heads: int
    dim_head: int
    dim_mlp: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        context: jax.Array,
        *,
        train: bool,
        dropout_rate: Rate,
        output_dropout_rate: Rate,
    ) -> jax.Array:
        """`[B, T, C], [B, N, K] -> [B, T, C]`; rates as in `TokenDecoder`."""
        size = self.num_heads, self.dim_head, self.dtype
        probs: dict[str, Any] = {"train": train, "dropout_rate": dropout_rate}
        y = LayerNorm(dtype=self.dtype, name="norm1")(x)
        y = TokenSelfAttention(*size, name="self_attn")(y, **probs)
        x = x + Dropout()(y, output_dropout_rate, train=train)
        y = LayerNorm(dtype=self.dtype, name="norm2")(x)
        y = ContextAttention(*size, name="cross_attn")(y, context, **probs)
        x = x + Dropout()(y, output_dropout_rate, train=train)
        y = LayerNorm(dtype=self.dtype, name="norm3")(x)
        return x + FeedForward(self.dim_mlp, self.dtype, name="mlp")(y, **probs)


class TokenDecoder(nn.Module):
    """A stack of `TokenDecoderLayer` on embedded tokens with learned positions; no final norm.

    Attributes:
      depth: layers.
      width: channels of the tokens inside.
      num_heads: attention heads.
      dim_head: channels of a head.
      dim_mlp: hidden channels of the feed-forward parts.
      dtype: of the computation; parameters stay float32.
    """

    depth: int
    width: int
    num_heads: int
    dim_head: int
    dim_mlp: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        context: jax.Array,
        *,
        train: bool,
        dropout_rate: Rate = 0.0,
        output_dropout_rate: Rate = 0.0,
    ) -> jax.Array:
        """Tokens `[B, T, I]` and their context `[B, N, K]` to `[B, T, width]`.

        Args:
          tokens: any number of them, which fixes the size of the learned positions.
          context: what they attend to.
          train: whether dropout acts.
          dropout_rate: of the attention probabilities and of both layers of the feed-forward part.
          output_dropout_rate: of the outputs of the two attention layers.
        """
        x = dense(tokens, self.width, "token_embedding", dtype=self.dtype)
        shape = (tokens.shape[1], self.width)
        init = nn.initializers.normal(1.0)
        positions = self.param("pos_embedding", init, shape, jnp.float32)
        x = x + positions.astype(self.dtype)[None]
        for i in range(self.depth):
            layer = TokenDecoderLayer(
                self.num_heads, self.dim_head, self.dim_mlp, self.dtype, name=f"layers_{i}"
            )
            x = layer(
                x,
                context,
                train=train,
                dropout_rate=dropout_rate,
                output_dropout_rate=output_dropout_rate,
            )
        return x
