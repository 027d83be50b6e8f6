"""The face3d networks: the embedding of a side view and its pose to the frontal embedding.

Ported from the face 3D transformer of github.com/Jasolicon/face000 (train_transformer3D).
"""

import functools
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.recipes.face3d.decoder import FaceDecoder
from jaxrecipes.recipes.face3d.encoder_decoder import FaceEncoderDecoder
from jaxrecipes.recipes.face3d.layers import INERT
from jaxrecipes.recipes.face3d.network_config import Face3DConfig, ModelType
from jaxrecipes.recipes.face3d.warping import FaceAngleWarping

__all__ = ["Face3DConfig", "ModelType", "face3d", "face3d_shapes", "inert_parameters"]


def face3d(config: Face3DConfig, dtype: DTypeLike = jnp.float32) -> nn.Module:
    """The network of a config; it computes in `dtype`, its result is float32.

    Called as `network(inputs, train=..., dropout_rate=..., return_residual=...)`; with
    `config.encodes_text` also with `pose_text_dropout_rate`.
    """
    if config.model_type == "encoder_decoder":
        return FaceEncoderDecoder(config, dtype)
    if config.model_type == "angle_warping":
        return FaceAngleWarping(config, dtype)
    return FaceDecoder(config, dtype)


def inert_parameters(config: Face3DConfig) -> tuple[str, ...]:
    """Regular expressions over the paths of parameters that no output depends on.

    Queries and keys over a single key, and what would only feed such a query. In the original their
    gradients are rounding noise around 0; here they are 0, and weight decay alone moves them.
    """
    patterns = []
    has_attention = config.model_type != "angle_warping" or config.use_attention_refine
    if has_attention:
        patterns.append(INERT[0])
    if config.model_type.startswith("decoder_only") and config.use_pose_attention:
        patterns += INERT[1:]
    if config.model_type == "encoder_decoder":
        patterns.append("^decoder/layers_[0-9]+/norm2/")
    return tuple(patterns)


@functools.cache
def face3d_shapes(config: Face3DConfig) -> dict[str, Any]:
    """Shapes and dtypes of the network's variables."""
    inputs = {
        "src": jnp.zeros((1, config.feature_size), jnp.float32),
        "pose": jnp.zeros((1, 3), jnp.float32),
        "keypoints_3d": jnp.zeros((1, config.num_keypoints, 3), jnp.float32),
    }
    network = face3d(config)
    return jax.eval_shape(lambda key: network.init(key, inputs, train=False), jax.random.key(0))
