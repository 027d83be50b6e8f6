"""CLIP's image tower, and its position table for images of another size."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.models.clip.blocks import ClipBlock, ClipTowerOutput, normal
from jaxrecipes.models.clip.config import ClipVisionConfig
from jaxrecipes.nn import (
    Conv,
    LayerNorm,
    Linear,
    run_block,
)
from jaxrecipes.nn.bicubic import bicubic_matrix


class ClipVision(nn.Module):
    """Images to features of the joint space: a vision transformer with a class token.

    Attributes:
      config: the architecture.
      projection_dim: dimension of the joint space.
      dtype: of the computation; parameters stay float32.
    """

    config: ClipVisionConfig
    projection_dim: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> ClipTowerOutput:
        """Features of images `[B, S, S, 3]`, floats normalised with CLIP's mean and deviation.

        Raises:
          ValueError: the images are not of the tower's size.
        """
        config, dtype = self.config, self.dtype
        size, width = config.image_size, config.width
        rows, cols = images.shape[1:3]
        if (rows, cols) != (size, size):
            raise ValueError(
                f"this CLIP takes images of {size}x{size} pixels, got {rows}x{cols}: resize them, "
                "or the position table with `resize_positions`"
            )
        patch = config.patch_size
        x = Conv(
            width, patch, patch, kernel_init=normal(0.02), dtype=dtype, name="patch_embedding"
        )(images)
        x = x.reshape(x.shape[0], -1, width)
        first = self.param("class_embedding", normal(width**-0.5), (width,), jnp.float32).astype(
            dtype
        )
        x = jnp.concatenate([jnp.broadcast_to(first, (x.shape[0], 1, width)), x], axis=1)
        positions = self.param(
            "position_embedding", normal(0.02), (config.grid**2 + 1, width), jnp.float32
        )
        x = LayerNorm(config.norm_eps, dtype, name="pre_norm")(x + positions.astype(dtype)[None])
        for i in range(config.depth):
            x = run_block(ClipBlock(config, dtype, name=f"blocks_{i}"), x)
        pooled = LayerNorm(config.norm_eps, dtype, name="post_norm")(x[:, 0])
        features = Linear(
            self.projection_dim,
            use_bias=False,
            kernel_init=normal(width**-0.5),
            dtype=dtype,
            name="projection",
        )(pooled)
        return ClipTowerOutput(features.astype(jnp.float32), pooled.astype(jnp.float32), x)


def resize_positions(params: Mapping[str, Any], grid: int) -> dict[str, Any]:
    """Parameters of `ClipVision` for images of `grid` x `grid` patches.

    The class token's row stays; the others are interpolated bicubically as PyTorch does
    (`align_corners=False`, no antialiasing), as Hugging Face does for images of another size.

    Args:
      params: of `ClipVision`, for a square grid of any size.
      grid: rows, and columns, of patches: `ClipVisionConfig.grid` of the new configuration.

    Returns:
      The same tree with another `position_embedding`, `[grid * grid + 1, width]` float32.
    """
    table = np.asarray(params["position_embedding"], np.float64)
    old = round((len(table) - 1) ** 0.5)
    weights = bicubic_matrix(old, grid)
    resized = np.einsum("ij,kl,jlw->ikw", weights, weights, table[1:].reshape(old, old, -1))
    rows = np.concatenate([table[:1], resized.reshape(grid * grid, -1)]).astype(np.float32)
    return {**params, "position_embedding": rows}
