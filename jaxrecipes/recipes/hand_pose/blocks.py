"""Attention and feed-forward parts of hand_pose's transformers, which start as PyTorch's layers do.

Projections to queries, keys and values have no bias; the heads together may be wider or narrower
than the tokens.
"""

import math

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.nn import Dropout, Linear, Rate, dot_product_attention, gelu
from jaxrecipes.nn.initializers import uniform_fan_in


def dense(
    x: jax.Array, features: int, name: str, *, use_bias: bool = True, dtype: DTypeLike = jnp.float32
) -> jax.Array:
    """A linear layer that starts uniform in +-1/sqrt(inputs), its bias too."""
    init = uniform_fan_in(x.shape[-1])
    return Linear(features, use_bias, init, init, dtype, name=name)(x)


class TokenSelfAttention(nn.Module):
    """Attention among the tokens, with one packed projection `qkv`.

    Of a single token only the values are computed: its attention to itself is 1. Dropout of the
    probability then drops whole heads.

    Attributes:
      num_heads: attention heads.
      dim_head: channels of a head.
      dtype: of the computation (the softmax is in float32); parameters stay float32.
    """

    num_heads: int
    dim_head: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool,
        dropout_rate: Rate = 0.0,
        angles: jax.Array | None = None,
        causal: bool = False,
    ) -> jax.Array:
        """`[B, T, C] -> [B, T, C]`.

        Args:
          x: the tokens.
          train: whether dropout acts.
          dropout_rate: of the attention probabilities.
          angles: `[B, T, dim_head / 2]` radians that pairs of channels of queries and keys are
            turned by (`rotate_pairs`).
          causal: whether a token sees only itself and those before it.
        """
        batch, tokens, channels = x.shape
        heads, inner = self.num_heads, self.num_heads * self.dim_head
        init = uniform_fan_in(channels)
        qkv = self.param("qkv", init, (channels, 3 * inner), jnp.float32).astype(self.dtype)
        flat = x.astype(self.dtype).reshape(-1, channels)
        if tokens == 1:
            weight = jnp.ones((batch, heads, 1), self.dtype)
            weight = Dropout()(weight, dropout_rate, train=train)
            value = (flat @ qkv[:, 2 * inner :]).reshape(batch, heads, -1)
            mixed = (value * weight).reshape(batch, 1, inner)
            return self._project(mixed, channels)
        packed = (flat @ qkv).reshape(batch, tokens, 3, heads, self.dim_head)
        query, key, value = packed.transpose(2, 0, 3, 1, 4)  # each B heads T dim_head
        if angles is not None:
            query, key = (rotate_pairs(a, angles[:, None]) for a in (query, key))
        mixed = dot_product_attention(
            query,
            key,
            value,
            causal=causal,
            dropout_rate=dropout_rate,
            dropout_key=Dropout().key(dropout_rate, train=train),
        )
        return self._project(mixed.swapaxes(1, 2).reshape(batch, tokens, inner), channels)

    def _project(self, mixed: jax.Array, channels: int) -> jax.Array:
        if self.num_heads == 1 and self.dim_head == channels:  # as the original
            return mixed
        return dense(mixed, channels, "out", dtype=self.dtype)


class ContextAttention(nn.Module):
    """Attention of tokens to a context, whose keys and values are never made.

    The keys' projection is applied to the queries and the values' to what was attended to:
    `(q W) c = q (W c)`. That costs a small part where there are few queries, or where the context
    has fewer channels than a head.

    Attributes:
      num_heads: attention heads.
      dim_head: channels of a head.
      dtype: of the computation (the softmax is in float32); parameters stay float32.
    """

    num_heads: int
    dim_head: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, context: jax.Array, *, train: bool, dropout_rate: Rate = 0.0
    ) -> jax.Array:
        """`[B, T, C], [B, N, K] -> [B, T, C]`; dropout acts on the attention probabilities."""
        batch, tokens, channels = x.shape
        heads, width, inner = self.num_heads, self.dim_head, self.num_heads * self.dim_head
        context = context.astype(self.dtype)
        inputs = context.shape[-1]
        packed = self.param("kv", uniform_fan_in(inputs), (inputs, 2 * inner), jnp.float32).astype(
            self.dtype
        )
        to_key, to_value = packed.reshape(inputs, 2, heads, width).transpose(1, 2, 0, 3)
        query = dense(x, inner, "q", use_bias=False, dtype=self.dtype)
        query = query.reshape(-1, heads, width).swapaxes(0, 1)  # heads B*T width
        query = query @ to_key.swapaxes(-1, -2)  # heads B*T K
        query = query.reshape(heads, batch, tokens, inputs).swapaxes(0, 1)
        query = query.reshape(batch, 1, heads * tokens, inputs)  # all heads see the same keys
        mixed = dot_product_attention(
            query,
            context[:, None],
            context[:, None],
            scale=1.0 / math.sqrt(width),
            dropout_rate=dropout_rate,
            dropout_key=Dropout().key(dropout_rate, train=train),
        )
        mixed = mixed.reshape(batch, heads, tokens, inputs).swapaxes(0, 1)
        mixed = mixed.reshape(heads, -1, inputs) @ to_value  # heads B*T width
        mixed = mixed.swapaxes(0, 1).reshape(batch, tokens, inner)
        if heads == 1 and width == channels:  # as the original
            return mixed
        return dense(mixed, channels, "out", dtype=self.dtype)


class FeedForward(nn.Module):
    """`drop(linear2(drop(gelu(linear1(x)))))`.

    Attributes:
      hidden: channels between the two layers.
      dtype: of the computation; parameters stay float32.
    """

    hidden: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, dropout_rate: Rate = 0.0) -> jax.Array:
        """`[B, T, C] -> [B, T, C]`."""
        y = gelu(dense(x, self.hidden, "linear1", dtype=self.dtype))
        y = Dropout()(y, dropout_rate, train=train)
        y = dense(y, x.shape[-1], "linear2", dtype=self.dtype)
        return Dropout()(y, dropout_rate, train=train)


def rotate_pairs(x: jax.Array, angles: jax.Array) -> jax.Array:
    """Rotary positions (Su et al., "RoFormer", 2021) on neighbouring channels.

    Args:
      x: `[..., d]`; channels 2i and 2i + 1 are a point of the plane.
      angles: `[..., d / 2]` radians float32, of axes that broadcast to those of `x`.

    Returns:
      The shape and dtype of `x`, each point turned by its angle.
    """
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    even, odd = x[..., 0::2].astype(jnp.float32), x[..., 1::2].astype(jnp.float32)
    turned = jnp.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1)
    return turned.reshape(x.shape).astype(x.dtype)
