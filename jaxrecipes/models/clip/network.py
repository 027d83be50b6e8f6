"""CLIP (Radford et al., 2021): images and texts in one space.

Each tower can be used alone: `ClipVision` and `ClipText` take the subtrees `params["vision"]` and
`params["text"]`. Weights are read and written by `jaxrecipes.models.clip.weights`, texts are
turned into token ids by `jaxrecipes.models.clip.tokenizer`.
"""

from typing import NamedTuple

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.losses.similarity import unit
from jaxrecipes.models.clip.blocks import ClipTowerOutput
from jaxrecipes.models.clip.config import (
    PUBLISHED,
    ClipConfig,
    ClipTextConfig,
    ClipTowerConfig,
    ClipVisionConfig,
)
from jaxrecipes.models.clip.text import ClipText
from jaxrecipes.models.clip.vision import ClipVision, resize_positions

__all__ = [
    "IMAGE_MEAN",
    "IMAGE_STD",
    "PUBLISHED",
    "Clip",
    "ClipConfig",
    "ClipOutput",
    "ClipText",
    "ClipTextConfig",
    "ClipTowerConfig",
    "ClipTowerOutput",
    "ClipVision",
    "ClipVisionConfig",
    "resize_positions",
]

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)


class ClipOutput(NamedTuple):
    """Images and texts compared, all float32.

    Attributes:
      image_embeds: `[B, projection_dim]` unit vectors.
      text_embeds: `[N, projection_dim]` unit vectors.
      logits_per_image: `[B, N]`, cosines times exp(logit_scale).
    """

    image_embeds: jax.Array
    text_embeds: jax.Array
    logits_per_image: jax.Array


class Clip(nn.Module):
    """Both towers and the scale of their logits; no dropout and no batch statistics anywhere.

    Attributes:
      config: the architecture.
      dtype: of the computation; parameters, features and logits stay float32.
    """

    config: ClipConfig
    dtype: DTypeLike = jnp.float32

    def setup(self):
        config = self.config
        self.vision = ClipVision(config.vision, config.projection_dim, self.dtype)
        self.text = ClipText(config.text, config.projection_dim, self.dtype)
        self.logit_scale = self.param(
            "logit_scale", nn.initializers.constant(2.6592), (), jnp.float32
        )

    def __call__(
        self, images: jax.Array, token_ids: jax.Array, mask: jax.Array | None = None
    ) -> ClipOutput:
        """Compares images `[B, S, S, 3]` with texts `[N, T]`; see the towers for both.

        Raises:
          ValueError: images of another size than the tower's, or texts that are too long.
        """
        image_embeds = unit(self.vision(images).features)
        text_embeds = unit(self.text(token_ids, mask).features)
        logits = jnp.exp(self.logit_scale) * image_embeds @ text_embeds.T
        return ClipOutput(image_embeds, text_embeds, logits)
