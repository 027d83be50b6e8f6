"""DINOv2's position table for images of another size."""

import jax
from jax import numpy as jnp

from jaxrecipes.models.dinov2.config import PosInterp
from jaxrecipes.nn.bicubic import bicubic_matrix


def interpolate_positions(positions: jax.Array, grid: int, pos_interp: PosInterp) -> jax.Array:
    """The position table for `grid` x `grid` patches, differentiable.

    Args:
      positions: `[1 + n * n, C]` float32, the class token's row first, then patches row by row.
      grid: rows, and columns, of patches.
      pos_interp: see `Dinov2Config`.

    Returns:
      `[1 + grid * grid, C]` float32; the class token's row is unchanged, and so are all rows if
      `grid == n`.
    """
    old = round((len(positions) - 1) ** 0.5)
    if grid == old:
        return positions
    offset = 0.1 if pos_interp == "official" else 0.0
    matrix = bicubic_matrix(
        old, grid, step=old / (grid + offset), antialias=pos_interp == "antialias"
    )
    weights, channels = jnp.asarray(matrix, jnp.float32), positions.shape[-1]
    highest = jax.lax.Precision.HIGHEST
    rows = jnp.dot(weights, positions[1:].reshape(old, old * channels), precision=highest)
    rows = rows.reshape(grid, old, channels)
    patches = jnp.einsum("kl,ilc->ikc", weights, rows, precision=highest)
    return jnp.concatenate([positions[:1], patches.reshape(grid * grid, channels)])
