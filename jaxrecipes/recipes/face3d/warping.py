"""The face3d angle warp: the pose scales and shifts the embedding, a basis and MLPs refine it."""

from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.nn import (
    Dropout,
    LayerNorm,
    Linear,
    Rate,
    run_block,
)
from jaxrecipes.nn.initializers import uniform_fan_in
from jaxrecipes.nn.single_key_attention import SingleKeyAttention
from jaxrecipes.recipes.face3d.network_config import Face3DConfig


class AngleWarping(nn.Module):
    """Scale and shift by the pose, then a gated mixture of basis vectors, then a refinement."""

    config: Face3DConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, src: jax.Array, pose: jax.Array, *, train: bool, dropout_rate: Rate
    ) -> jax.Array:
        config, size = self.config, src.shape[-1]

        def linear(x: jax.Array, features: int, name: str) -> jax.Array:
            return Linear(features, dtype=self.dtype, name=name)(x)

        def norm(x: jax.Array, name: str) -> jax.Array:
            return nn.relu(LayerNorm(dtype=self.dtype, name=name)(x))

        def drop(x: jax.Array) -> jax.Array:
            return Dropout()(x, dropout_rate, train=train)

        x = drop(norm(linear(pose, 128, "transform1"), "transform_norm"))
        x = drop(nn.relu(linear(x, 256, "transform2")))
        scale, shift = jnp.split(linear(x, 2 * size, "transform3"), 2, axis=-1)
        y = src.astype(self.dtype) * (2.0 * nn.sigmoid(scale)) + shift
        if config.use_basis:
            basis = self.param(
                "feature_basis", nn.initializers.normal(0.02), (config.num_basis, size), jnp.float32
            ).astype(self.dtype)
            both = jnp.concatenate([y, pose.astype(self.dtype)], axis=-1)
            x = drop(nn.relu(linear(both, 256, "selector1")))
            shares = nn.softmax(linear(x, config.num_basis, "selector2"))
            mixture = shares @ basis
            gate = nn.sigmoid((y * mixture).sum(-1, keepdims=True))
            y = gate * y + (1.0 - gate) * mixture
        if config.use_refinement:
            x = drop(norm(linear(y, config.hidden_dim, "refinement1"), "refinement_norm"))
            x = drop(nn.relu(linear(x, config.hidden_dim, "refinement2")))
            y = y + 0.1 * linear(x, size, "refinement3")
        return y


class AttentionRefiner(nn.Module):
    """`norm(x + drop(attention(x)))`."""

    num_heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, dropout_rate: Rate) -> jax.Array:
        attention = SingleKeyAttention(
            self.num_heads, uniform_fan_in(x.shape[-1]), self.dtype, name="attention"
        )
        y = attention(x, train=train, dropout_rate=dropout_rate)
        x = x + Dropout()(y, dropout_rate, train=train)
        return LayerNorm(dtype=self.dtype, name="norm")(x)


class FaceAngleWarping(nn.Module):
    """The angle warp, attention layers and an output projection."""

    config: Face3DConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        inputs: dict[str, jax.Array],
        *,
        train: bool,
        dropout_rate: Rate = 0.0,
        return_residual: bool = False,
    ) -> jax.Array:
        """The estimated frontal embedding `[B, D]`: `src + o`, or `o - src` as the residual.

        The network's output o is a whole embedding, not a residual. The original nevertheless adds
        `src` to it; its residual mode differs from the other by twice `src`. Both are kept.

        Args:
          inputs: `src` `[B, D]` and `pose` `[B, 3]` in degrees.
          train: dropout.
          dropout_rate: of every dropout; 0.1 in the original, whatever its flag says.
          return_residual: return `o - src`.
        """
        config, dtype = self.config, self.dtype
        src, pose = inputs["src"], inputs["pose"]
        rates: dict[str, Any] = {"train": train, "dropout_rate": dropout_rate}
        x = AngleWarping(config, dtype, name="angle_warping")(src, pose, **rates)
        if config.use_attention_refine:
            for i in range(config.num_attention_layers):
                refiner = AttentionRefiner(config.heads, dtype, name=f"attention_refiners_{i}")
                x = run_block(refiner, x, **rates)
        init = uniform_fan_in(x.shape[-1])
        x = Linear(
            config.d_model, kernel_init=init, bias_init=init, dtype=dtype, name="output_projection"
        )(x)
        x = LayerNorm(dtype=dtype, name="output_norm")(x)
        x = Dropout()(x, dropout_rate, train=train).astype(jnp.float32)
        return x - src if return_residual else src + x
