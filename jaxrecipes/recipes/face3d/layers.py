"""Parts that the face3d networks share. Every sequence has one token, so tokens are `[B, C]`.

With a single key, queries and keys cannot affect the result of attention (see
`SingleKeyAttention`). Their parameters stay in the tree only for loading and saving: they get no
gradient, and only decay (`INERT`).
"""

from typing import Any

import jax
from flax import linen as nn
from flax.typing import Initializer
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.broadcasting import aligned
from jaxrecipes.nn import (
    Dropout,
    LayerNorm,
    Linear,
    Rate,
    gelu,
    run_block,
)
from jaxrecipes.nn.initializers import uniform_fan_in
from jaxrecipes.nn.single_key_attention import InertLinear, SingleKeyAttention

INERT = ("/query_key/", "^pose_attention/pose_to_key/", "^pose_attention/feature_to_query/")
"""Paths of parameters that no output depends on."""


def dense(x: jax.Array, features: int, name: str, dtype: DTypeLike) -> jax.Array:
    """A linear layer that starts as the original's: Xavier-uniform, bias in +-1/sqrt(inputs)."""
    bias_init = uniform_fan_in(x.shape[-1])
    return Linear(features, bias_init=bias_init, dtype=dtype, name=name)(x)


class Mlp(nn.Module):
    """`dense2(relu(dense1(x)))`."""

    hidden: int
    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(dense(x, self.hidden, "dense1", self.dtype))
        return dense(x, self.features, "dense2", self.dtype)


class InertLayerNorm(nn.Module):
    """The parameters of a layer normalisation that is never computed."""

    features: int

    @nn.compact
    def __call__(self) -> None:
        self.param("scale", nn.initializers.ones_init(), (self.features,), jnp.float32)
        self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)


class PoseAttention(nn.Module):
    """Attention from the embedding to one key made of the pose: adds `pose_to_value(pose)`."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, pose: jax.Array) -> jax.Array:
        """`x` `[B, C]`, `pose` `[B, P]` (the pose, or a code of it)."""
        width, inputs = x.shape[-1], pose.shape[-1]
        bias_inits = {n: uniform_fan_in(n) for n in (inputs, width)}
        InertLinear(inputs, width, bias_init=bias_inits[inputs], name="pose_to_key")()
        InertLinear(width, width, bias_init=bias_inits[width], name="feature_to_query")()
        return x + dense(pose, width, "pose_to_value", self.dtype)


class AnglePE(nn.Module):
    """`x + scale * projection(pose)`, with a scale that starts at 1."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, pose: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones_init(), (1,), jnp.float32).astype(
            self.dtype
        )
        return x + aligned(scale, x) * dense(pose, x.shape[-1], "angle_projection", self.dtype)


class AngleConditionedNorm(nn.Module):
    """`layer_norm(x) * (1 + sigmoid(to_scale(pose))) + to_shift(pose)`."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, pose: jax.Array) -> jax.Array:
        width = x.shape[-1]
        scale = Mlp(width, width, self.dtype, name="angle_to_scale")(pose)
        shift = Mlp(width, width, self.dtype, name="angle_to_shift")(pose)
        x = LayerNorm(dtype=self.dtype, name="layer_norm")(x)
        return x * (1.0 + nn.sigmoid(scale)) + shift


class TransformerLayer(nn.Module):
    """An encoder or decoder layer of `torch.nn.Transformer` on one token, with exact GELU.

    Attributes:
      num_heads: must divide the channels.
      hidden: width of the feed-forward part.
      decoder: attend to a memory as well.
      norm_first: normalise before each part; otherwise after its residual.
      bias_inits: of linear1 and linear2.
      dtype: of the computation; parameters stay float32.
    """

    num_heads: int
    hidden: int
    decoder: bool
    norm_first: bool
    bias_inits: tuple[Initializer, Initializer]
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, memory: jax.Array, *, train: bool, dropout_rate: Rate
    ) -> jax.Array:
        """`[B, C] -> [B, C]`; `memory` `[B, C]` is not looked at by an encoder layer."""
        channels = x.shape[-1]
        rates: dict[str, Any] = {"train": train, "dropout_rate": dropout_rate}

        def norm(name: str, y: jax.Array) -> jax.Array:
            return LayerNorm(dtype=self.dtype, name=name)(y)

        def add(x: jax.Array, y: jax.Array, name: str) -> jax.Array:
            x = x + Dropout()(y, dropout_rate, train=train)
            return x if self.norm_first else norm(name, x)

        def attention(name: str, source: jax.Array) -> jax.Array:
            return SingleKeyAttention(self.num_heads, dtype=self.dtype, name=name)(source, **rates)

        def feed_forward(y: jax.Array) -> jax.Array:
            first, second = self.bias_inits
            y = gelu(Linear(self.hidden, bias_init=first, dtype=self.dtype, name="linear1")(y))
            y = Dropout()(y, dropout_rate, train=train)
            return Linear(channels, bias_init=second, dtype=self.dtype, name="linear2")(y)

        last = "norm3" if self.decoder else "norm2"
        x = add(x, attention("self_attn", norm("norm1", x) if self.norm_first else x), "norm1")
        if self.decoder:
            if self.norm_first:  # it would feed the query
                InertLayerNorm(channels, name="norm2")()
            x = add(x, attention("multihead_attn", memory), "norm2")
        return add(x, feed_forward(norm(last, x) if self.norm_first else x), last)


class Transformer(nn.Module):
    """A stack of layers, `[B, C] -> [B, C]`, without a norm after it; see `TransformerLayer`.

    The original clones its first layer and then draws the matrices anew: the biases of the
    feed-forward parts start equal in all layers.
    """

    num_layers: int
    num_heads: int
    hidden: int
    decoder: bool
    norm_first: bool
    dtype: DTypeLike = jnp.float32

    def _shared_bias_init(self, fan_in: int) -> Initializer:
        init = uniform_fan_in(fan_in)
        if not self.is_initializing():
            return init
        key = self.make_rng("params")
        return lambda _, shape, dtype=jnp.float32: init(key, shape, dtype)

    @nn.compact
    def __call__(
        self, x: jax.Array, memory: jax.Array, *, train: bool, dropout_rate: Rate
    ) -> jax.Array:
        bias_inits = self._shared_bias_init(x.shape[-1]), self._shared_bias_init(self.hidden)
        for i in range(self.num_layers):
            layer = TransformerLayer(
                self.num_heads,
                self.hidden,
                self.decoder,
                self.norm_first,
                bias_inits,
                self.dtype,
                name=f"layers_{i}",
            )
            x = run_block(layer, x, memory, train=train, dropout_rate=dropout_rate)
        return x
