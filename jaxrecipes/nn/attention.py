"""Self-attention and the pre-norm transformer encoder layer, as PyTorch computes them."""

import jax
from flax import linen as nn
from flax.typing import Initializer
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.nn.activations import gelu
from jaxrecipes.nn.attention_forms import dot_product_attention
from jaxrecipes.nn.dropout import Dropout, Rate
from jaxrecipes.nn.initializers import xavier_uniform
from jaxrecipes.nn.layer_norm import LayerNorm
from jaxrecipes.nn.linear import Linear


class SelfAttention(nn.Module):
    """Multi-head self-attention with one packed projection, like `torch.nn.MultiheadAttention`.

    The columns of `in_proj/kernel` `[C, 3C]` are queries, keys and values in that order; the scale
    is 1/sqrt(C / num_heads); dropout acts on the attention probabilities.

    Attributes:
      num_heads: must divide the channels.
      in_proj_init: initialiser of the packed projection.
      dtype: of the computation (the softmax is in float32); parameters stay float32.
      out_proj_init: initialiser of the projection of the result.
    """

    num_heads: int
    in_proj_init: Initializer = xavier_uniform()
    dtype: DTypeLike = jnp.float32
    out_proj_init: Initializer = xavier_uniform()

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool,
        dropout_rate: Rate = 0.0,
        mask: jax.Array | None = None,
        causal: bool = False,
    ) -> jax.Array:
        """`[B, T, C] -> [B, T, C]`.

        Args:
          x: the tokens.
          train: whether dropout acts.
          dropout_rate: of the attention probabilities, traced or not.
          mask: bool, of a shape that broadcasts to `[B, heads, T, T]`: whether the query (second to
            last axis) sees the key (last axis). Without a mask every query sees every key.
          causal: whether a token sees only itself and those before it.

        Raises:
          ValueError: the heads do not divide the channels.
        """
        batch, tokens, channels = x.shape
        if channels % self.num_heads:
            raise ValueError(f"{self.num_heads} heads do not divide {channels} channels")
        width = channels // self.num_heads
        packed = Linear(
            3 * channels, kernel_init=self.in_proj_init, dtype=self.dtype, name="in_proj"
        )(x)
        packed = packed.reshape(batch, tokens, 3, self.num_heads, width)
        query, key, value = packed.transpose(2, 0, 3, 1, 4)  # each B heads T width
        mixed = dot_product_attention(
            query,
            key,
            value,
            mask=mask,
            causal=causal,
            dropout_rate=dropout_rate,
            dropout_key=Dropout().key(dropout_rate, train=train),
        )
        mixed = mixed.swapaxes(1, 2).reshape(batch, tokens, channels)
        return Linear(channels, kernel_init=self.out_proj_init, dtype=self.dtype, name="out_proj")(
            mixed
        )


class EncoderLayer(nn.Module):
    """`torch.nn.TransformerEncoderLayer(norm_first=True, activation="gelu", batch_first=True)`.

    `x += drop(attention(norm1(x)))`, then `x += drop(linear2(drop(gelu(linear1(norm2(x))))))`.

    Attributes:
      num_heads: must divide the channels.
      hidden: width of the feed-forward part.
      in_proj_init: initialiser of the packed attention projection.
      dtype: of the computation; parameters stay float32.
    """

    num_heads: int
    hidden: int
    in_proj_init: Initializer = xavier_uniform()
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, dropout_rate: Rate = 0.0) -> jax.Array:
        """`[B, T, C] -> [B, T, C]`; one rate for all four dropouts."""
        channels = x.shape[-1]
        y = LayerNorm(dtype=self.dtype, name="norm1")(x)
        y = SelfAttention(self.num_heads, self.in_proj_init, self.dtype, name="self_attn")(
            y, train=train, dropout_rate=dropout_rate
        )
        x = x + Dropout()(y, dropout_rate, train=train)
        y = LayerNorm(dtype=self.dtype, name="norm2")(x)
        y = gelu(Linear(self.hidden, dtype=self.dtype, name="linear1")(y))
        y = Dropout()(y, dropout_rate, train=train)
        y = Linear(channels, dtype=self.dtype, name="linear2")(y)
        return x + Dropout()(y, dropout_rate, train=train)
