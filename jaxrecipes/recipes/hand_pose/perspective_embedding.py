"""Viewing rays through the pixels of a patch, added to its features."""

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.broadcasting import aligned
from jaxrecipes.nn import BatchNorm, Linear
from jaxrecipes.recipes.hand_pose.blocks import dense
from jaxrecipes.recipes.hand_pose.network_config import PerspectiveConfig
from jaxrecipes.recipes.hand_pose.token_decoder import TokenDecoder

NUM_HEADS, DIM_HEAD, MLP_RATIO = 8, 64, 4


def cell_centres(count: int) -> jax.Array:
    """`[count]` centres of the equal cells of the unit interval."""
    return (jnp.arange(count, dtype=jnp.float32) + 0.5) / count


def viewing_rays(
    bbox: jax.Array, focal: jax.Array, princpt: jax.Array, count: int
) -> tuple[jax.Array, jax.Array]:
    """Directions in which the camera sees a grid of points of a patch.

    Args:
      bbox: `[..., 4]` pixels (left, top, right, bottom) of the patch in the image.
      focal: `[..., 2]` focal lengths, pixels.
      princpt: `[..., 2]` principal point, pixels of the same image.
      count: points along each side.

    Returns:
      Two arrays `[..., count, count, 2]` whose first grid axis is x: x and y of the unit vectors
      towards the points, and the points' positions in the patch, in (0, 1).
    """
    centres = cell_centres(count)
    where = jnp.stack(jnp.meshgrid(centres, centres, indexing="ij"), axis=-1)
    corner, far, focal, princpt = (
        a[..., None, None, :] for a in (bbox[..., :2], bbox[..., 2:], focal, princpt)
    )
    where = aligned(where, corner)
    plane = (corner + (far - corner) * where - princpt) / focal
    rays = plane * jax.lax.rsqrt(1.0 + jnp.square(plane).sum(-1, keepdims=True))
    return rays, jnp.broadcast_to(where, rays.shape)


class PerspectiveEmbedding(nn.Module):
    """Adds the perspective in which a patch is seen to its features.

    "ca": the features attend to the rays, one layer of the decoder's kind, and a linear layer that
    starts at zero. "dense": a perceptron of all rays gives one vector for all tokens.

    Attributes:
      config: which of the two, and how many rays; not of the type "none".
      dtype: of the computation; parameters and the geometry stay float32.
    """

    config: PerspectiveConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        features: jax.Array,
        bbox: jax.Array,
        focal: jax.Array,
        princpt: jax.Array,
        *,
        train: bool,
    ) -> jax.Array:
        """`[B, T, C] -> [B, T, C]`.

        Args:
          features: the class token first, then patches; or patches alone.
          bbox: `[B, 4]` as in `viewing_rays`.
          focal: `[B, 2]`.
          princpt: `[B, 2]`.
          train: "dense": whether its batch normalisation takes the batch's statistics. There is no
            dropout.
        """
        rays, where = viewing_rays(bbox, focal, princpt, self.config.num_sample)
        batch, _, width = features.shape
        if self.config.type == "ca":
            context = jnp.concatenate([rays, where], axis=-1).reshape(batch, -1, 4)
            decoder = TokenDecoder(
                1, width, NUM_HEADS, DIM_HEAD, MLP_RATIO * width, self.dtype, name="net"
            )
            x = decoder(features, context, train=False)
            zeros = nn.initializers.zeros_init()
            zero_linear = Linear(width, False, zeros, dtype=self.dtype, name="zero_linear")
            return features + zero_linear(x)
        x = rays.reshape(batch, -1)
        for i in (1, 2, 3):
            x = dense(x, width, f"dense{i}", dtype=self.dtype)
            x = BatchNorm("relu", dtype=self.dtype, name=f"norm{i}")(x, train=train)
        skipped = 1 if self.config.pie_fusion == "patch" else 0
        told = jnp.arange(features.shape[1], dtype=jnp.int32) >= skipped
        return features + jnp.where(told[None, :, None], x[:, None], 0)
