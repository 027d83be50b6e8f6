"""The pose-conditioned transformer block of the universal face network.

Every linear layer in it starts from N(0, 0.02) with zero biases. Poses are angles in degrees; the
first layer that sees them computes in float32 whatever the dtype of the rest.
"""

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.nn import Dropout, LayerNorm, Linear, Rate, dot_product_attention, gelu, linear
from jaxrecipes.recipes.faces.pose_text import PoseText

_ATTENTION_POSE_WIDTH, _TEXT_POSE_WIDTH, _NORM_POSE_WIDTH = 64, 512, 128  # fixed there
_SMALL = nn.initializers.normal(0.02)


class _Weights(nn.Module):
    """Only the parameters of a linear layer, for a caller that needs a part of its outputs."""

    features: int

    @nn.compact
    def __call__(self, inputs: int) -> tuple[jax.Array, jax.Array]:
        """Kernel `[inputs, features]` and bias `[features]`."""
        kernel = self.param("kernel", _SMALL, (inputs, self.features), jnp.float32)
        return kernel, self.param(
            "bias", nn.initializers.zeros_init(), (self.features,), jnp.float32
        )


class PoseAttention(nn.Module):
    """Self-attention whose queries, keys and values are shifted by a code of the pose.

    The bias and the pose code of the keys are the same for all keys: they change all scores of a
    query by the same number, which has no effect after the softmax, and are left out. Those
    parameters, the columns C to 2C of `qkv/bias`, `pose_out/kernel` and `pose_out/bias`, have
    gradients of exactly zero (the original's are rounding noise).

    Attributes:
      num_heads: must divide the channels.
      dtype: of the computation (the softmax is in float32); parameters stay float32.
      text_dim: code CLIP's features of the pose's phrase, of that size, instead of the angles.
    """

    num_heads: int
    dtype: DTypeLike = jnp.float32
    text_dim: int | None = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        pose: jax.Array,
        *,
        train: bool,
        dropout_rate: Rate = 0.0,
        pose_text_dropout_rate: Rate = 0.0,
    ) -> jax.Array:
        """`[B, T, C]` and degrees `[B, 3]` to `[B, T, C]`.

        `dropout_rate` is of the probabilities, `pose_text_dropout_rate` of the code of a phrase.
        """
        batch, tokens, channels = x.shape
        width = channels // self.num_heads

        def without_keys(columns: jax.Array) -> jax.Array:
            query, _, value = jnp.split(columns.astype(self.dtype), 3, axis=-1)
            return jnp.concatenate([query, value], axis=-1)

        kernel, bias = _Weights(3 * channels, name="qkv")(channels)
        code_width = _ATTENTION_POSE_WIDTH
        if self.text_dim is not None:
            pose, code_width = PoseText(self.text_dim, name="pose_text")(pose), _TEXT_POSE_WIDTH
        hidden = nn.relu(Linear(code_width, kernel_init=_SMALL, name="pose_hidden")(pose))
        if self.text_dim is not None:
            hidden = Dropout()(hidden, pose_text_dropout_rate, train=train)
        pose_kernel, pose_bias = _Weights(3 * channels, name="pose_out")(code_width)
        shift = linear(hidden.astype(self.dtype), without_keys(pose_kernel))
        shift = (shift + without_keys(pose_bias + bias)[None])[:, None]  # B 1 2C

        packed = linear(x.astype(self.dtype), kernel.astype(self.dtype))
        query, key, value = jnp.split(packed, 3, axis=-1)
        query, value = query + shift[..., :channels], value + shift[..., channels:]
        query, key, value = (
            part.reshape(batch, tokens, self.num_heads, width).swapaxes(1, 2)
            for part in (query, key, value)
        )  # each B heads T width
        mixed = dot_product_attention(
            query,
            key,
            value,
            dropout_rate=dropout_rate,
            dropout_key=Dropout().key(dropout_rate, train=train),
        )
        mixed = mixed.swapaxes(1, 2).reshape(batch, tokens, channels)
        return Linear(channels, kernel_init=_SMALL, dtype=self.dtype, name="proj")(mixed)


class PoseNorm(nn.Module):
    """Layer normalisation whose output is scaled and shifted by codes of the pose.

    The scale has no "1 +": a new network multiplies by almost 0 where the pose is 0.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, pose: jax.Array) -> jax.Array:
        """`[B, T, C]` and degrees `[B, 3]` to `[B, T, C]`."""
        hidden = nn.relu(Linear(_NORM_POSE_WIDTH, kernel_init=_SMALL, name="pose_hidden")(pose))
        codes = Linear(2 * x.shape[-1], kernel_init=_SMALL, dtype=self.dtype, name="pose_out")
        scale, shift = jnp.split(codes(hidden)[:, None], 2, axis=-1)
        return scale * LayerNorm(dtype=self.dtype, name="norm")(x) + shift


class PoseBlock(nn.Module):
    """`x += drop(attention(norm1(x, pose), pose))`, then `x += mlp(norm2(x))`.

    Attributes:
      num_heads: must divide the channels.
      mlp_dim: width of the feed-forward part.
      dtype: of the computation; parameters stay float32.
      text_dim: of `PoseAttention`.
    """

    num_heads: int
    mlp_dim: int
    dtype: DTypeLike = jnp.float32
    text_dim: int | None = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        pose: jax.Array,
        *,
        train: bool,
        dropout_rate: Rate = 0.0,
        attention_dropout_rate: Rate = 0.0,
        pose_text_dropout_rate: Rate = 0.0,
    ) -> jax.Array:
        """`[B, T, C]` and degrees `[B, 3]` to `[B, T, C]`."""
        y = PoseNorm(self.dtype, name="norm1")(x, pose)
        y = PoseAttention(self.num_heads, self.dtype, self.text_dim, name="attn")(
            y,
            pose,
            train=train,
            dropout_rate=attention_dropout_rate,
            pose_text_dropout_rate=pose_text_dropout_rate,
        )
        x = x + Dropout()(y, dropout_rate, train=train)
        y = LayerNorm(dtype=self.dtype, name="norm2")(x)
        y = Linear(self.mlp_dim, kernel_init=_SMALL, dtype=self.dtype, name="mlp_hidden")(y)
        y = Dropout()(gelu(y), dropout_rate, train=train)
        y = Linear(x.shape[-1], kernel_init=_SMALL, dtype=self.dtype, name="mlp_out")(y)
        return x + Dropout()(y, dropout_rate, train=train)
