"""The face3d decoders: with a pose alone, and with keypoints (the original's first revision)."""

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.nn import BatchNorm, Dropout, Rate
from jaxrecipes.recipes.face3d.layers import (
    AngleConditionedNorm,
    AnglePE,
    Mlp,
    PoseAttention,
    Transformer,
    dense,
)
from jaxrecipes.recipes.face3d.network_config import Face3DConfig
from jaxrecipes.recipes.faces.pose_text import PoseText

_TEXT_POSE_WIDTH = 512  # fixed in the original


class TextPoseEncoder(nn.Module):
    """`dense2(dropout(relu(dense1(features))))` of CLIP's features of the pose's phrase.

    Attributes:
      text_dim: numbers in these features.
      features: numbers in the code.
      dtype: of the computation.
    """

    text_dim: int
    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, pose: jax.Array, *, train: bool, dropout_rate: Rate) -> jax.Array:
        """Degrees `[B, 3]` to `[B, features]`."""
        x = PoseText(self.text_dim, name="pose_text")(pose)
        x = nn.relu(dense(x, _TEXT_POSE_WIDTH, "dense1", self.dtype))
        x = Dropout()(x, dropout_rate, train=train)
        return dense(x, self.features, "dense2", self.dtype)


class SpatialFusion(nn.Module):
    """A gate per sample between the embedding and a code of the keypoints' x and y."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, keypoints: jax.Array) -> jax.Array:
        """`x` `[B, C]`, `keypoints` `[B, K, 3]` -> `[B, C]`."""
        width = x.shape[-1]
        points = keypoints[..., :2].reshape(keypoints.shape[0], -1)
        code = Mlp(128, width, self.dtype, name="keypoint_encoder")(points)
        gate = Mlp(width, 1, self.dtype, name="attention_generator")(
            jnp.concatenate([x, code], axis=-1)
        )
        gate = nn.sigmoid(gate)
        return (1.0 - gate) * x + gate * code


class KeypointEncoder(nn.Module):
    """Linear, BatchNorm, ReLU, dropout, linear over the flattened keypoints (x0 y0 z0 x1 ...)."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, keypoints: jax.Array, *, train: bool, dropout_rate: Rate) -> jax.Array:
        x = dense(keypoints.reshape(keypoints.shape[0], -1), 256, "dense1", self.dtype)
        x = BatchNorm("relu", dtype=self.dtype, name="norm")(x, train=train)
        x = Dropout()(x, dropout_rate, train=train)
        return dense(x, self.features, "dense2", self.dtype)


class FaceDecoder(nn.Module):
    """Embedding and pose mixed into one token, and a post-norm decoder whose memory is the pose.

    With `config.keypoints` a code of the keypoints joins the mixture, whose weights are learned;
    otherwise they are 0.7 and 0.3.
    """

    config: Face3DConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        inputs: dict[str, jax.Array],
        *,
        train: bool,
        dropout_rate: Rate = 0.0,
        pose_text_dropout_rate: Rate = 0.0,
        return_residual: bool = False,
    ) -> jax.Array:
        """The estimated frontal embedding `[B, D]`.

        Args:
          inputs: `src` `[B, D]`; `pose` `[B, 3]` in degrees, or in its place `angles` `[B, >=3]`
            whose first three count; with keypoints `keypoints_3d` `[B, K, 3]`.
          train: dropout, and batch statistics.
          dropout_rate: of every dropout but the next.
          pose_text_dropout_rate: of the code of a phrase, with `config.encodes_text`.
          return_residual: return what is added to `src`.
        """
        config, dtype = self.config, self.dtype
        src, pose = inputs["src"], pose_of(inputs)
        width = config.d_model
        if config.encodes_text:
            pose_code = TextPoseEncoder(config.pose_text_dim, width, dtype, name="pose_encoder")(
                pose, train=train, dropout_rate=pose_text_dropout_rate
            )
        else:
            pose_code = Mlp(128, width, dtype, name="pose_encoder")(pose)
        x = dense(src, width, "input_projection", dtype)
        if config.use_spatial_attention:
            x = SpatialFusion(dtype, name="spatial_fusion")(x, inputs["keypoints_3d"])
        if config.use_pose_attention:
            key = pose_code if config.model_type == "decoder_only_clip" else pose
            x = PoseAttention(dtype, name="pose_attention")(x, key)
        if config.keypoints:
            keypoint_code = KeypointEncoder(width, dtype, name="keypoint_encoder")(
                inputs["keypoints_3d"], train=train, dropout_rate=dropout_rate
            )
            raw = self.param("fusion_weights", lambda _: jnp.array([0.6, 0.2, 0.2], jnp.float32))
            shares = nn.softmax(raw).astype(dtype)
            x = shares[0] * x + shares[1] * keypoint_code + shares[2] * pose_code
        else:
            x = 0.7 * x + 0.3 * pose_code
        if config.use_angle_pe:
            x = AnglePE(dtype, name="angle_pe")(x, pose)
        if config.use_angle_conditioning:
            x = AngleConditionedNorm(dtype, name="angle_conditioned_norm")(x, pose)
        x = Dropout()(x, dropout_rate, train=train)
        x = Transformer(
            config.num_layers,
            config.nhead,
            config.dim_feedforward,
            decoder=True,
            norm_first=False,
            dtype=dtype,
            name="transformer_decoder",
        )(
            x,
            dense(pose, width, "angle_memory_projection", dtype),
            train=train,
            dropout_rate=dropout_rate,
        )
        residual = dense(x, config.feature_size, "output_projection", dtype).astype(jnp.float32)
        return residual if return_residual else src + residual


def pose_of(inputs: dict[str, jax.Array]) -> jax.Array:
    """`[B, 3]`: the pose, or the first three angles where none is given."""
    return inputs["pose"] if "pose" in inputs else inputs["angles"][:, :3]
