"""The face3d encoder-decoder: the encoded embedding is both the decoder's input and its memory."""

import math
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.broadcasting import aligned
from jaxrecipes.nn import Dropout, LayerNorm, Rate
from jaxrecipes.recipes.face3d.decoder import pose_of
from jaxrecipes.recipes.face3d.layers import AngleConditionedNorm, AnglePE, Mlp, Transformer, dense
from jaxrecipes.recipes.face3d.network_config import Face3DConfig


class PosePE(nn.Module):
    """`x + scale * mlp([sin(pose), cos(pose)])`, with a scale that starts at 1."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, pose: jax.Array) -> jax.Array:
        width = x.shape[-1]
        radians = pose * (math.pi / 180.0)
        waves = jnp.concatenate([jnp.sin(radians), jnp.cos(radians)], axis=-1)
        scale = self.param("scale", nn.initializers.ones_init(), (1,), jnp.float32)
        scale = aligned(scale.astype(self.dtype), x)
        return x + scale * Mlp(width // 2, width, self.dtype, name="pose_pe")(waves)


class FaceEncoderDecoder(nn.Module):
    """Pre-norm encoder of the embedding, and a pre-norm decoder that also knows the pose."""

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
        """The estimated frontal embedding `[B, D]`; arguments as of `FaceDecoder`."""
        config, dtype = self.config, self.dtype
        src, pose = inputs["src"], pose_of(inputs)
        rates: dict[str, Any] = {"train": train, "dropout_rate": dropout_rate}
        token = dense(src, config.d_model, "input_projection", dtype)
        memory = Transformer(
            config.num_encoder_layers,
            config.nhead,
            config.dim_feedforward,
            decoder=False,
            norm_first=True,
            dtype=dtype,
            name="encoder",
        )(token, token, **rates)
        x = dense(memory, config.d_model, "decoder_input_projection", dtype)
        if config.use_pose_pe:
            x = PosePE(dtype, name="pose_pe")(x, pose)
            x = AnglePE(dtype, name="angle_pe")(x, pose)
        x = AngleConditionedNorm(dtype, name="angle_conditioned_norm")(x, pose)
        x = Dropout()(x, dropout_rate, train=train)
        x = Transformer(
            config.num_decoder_layers,
            config.nhead,
            config.dim_feedforward,
            decoder=True,
            norm_first=True,
            dtype=dtype,
            name="decoder",
        )(x, memory, **rates)
        x = dense(x, config.feature_size, "output_projection", dtype)
        x = LayerNorm(dtype=dtype, name="output_norm")(x)
        residual = Dropout()(x, dropout_rate, train=train).astype(jnp.float32)
        return residual if return_residual else src + residual
