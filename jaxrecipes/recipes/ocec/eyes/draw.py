"""Procedural eyes, open and closed: the synthetic data of the OCEC recipe.

Each image is a function of (seed, index, size) alone: lids, lashes, iris, gaze, brow, skin, light,
glasses, crop, blur, noise and compression are drawn from the tables in `ranges`.
"""

import numpy as np

from jaxrecipes.data.indexed_random import IndexedRandom
from jaxrecipes.recipes.ocec.eyes.camera import photograph
from jaxrecipes.recipes.ocec.eyes.geometry import Draws
from jaxrecipes.recipes.ocec.eyes.scene import paint

OPEN, CLOSED = 1, 0
MIN_SIDE = 8  # pixels; an eye is no longer recognisable below
_CHUNK_PIXELS = 128 * 24 * 40  # images painted at a time, so that the planes stay in the cache


def eye_labels(seed: int, indices: np.ndarray) -> np.ndarray:
    """The class of each index: `[N]` int32, 1 open, 0 closed.

    Indices 2k and 2k+1 always hold one of each, in an order that depends on the seed, so any even
    stretch of indices that starts at an even one is balanced exactly.
    """
    indices = _checked(indices)
    swap = (IndexedRandom(seed, indices // 2).bits("label") & np.uint64(1)).astype(np.int64)
    return ((indices + swap) & 1).astype(np.int32)


def draw_eyes(
    seed: int, indices: np.ndarray, *, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws eyes by index.

    Args:
      seed: any integer; another seed is another population.
      indices: `[N]` non-negative integers, in any order, repeats allowed.
      height: pixels, at least 8.
      width: pixels, at least 8.

    Returns:
      Images `[N, height, width, 3]` uint8 RGB and labels `[N]` int32 (1 open, 0 closed).

    Raises:
      ValueError: negative or non-integer indices, or an image that is too small.
    """
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"got {height}x{width} pixels; draw eyes at {MIN_SIDE}x{MIN_SIDE} or more")
    indices = _checked(indices)
    labels = eye_labels(seed, indices)
    images = np.empty((len(indices), height, width, 3), np.uint8)
    chunk = max(1, _CHUNK_PIXELS // (height * width))
    for start in range(0, len(indices), chunk):
        rows = slice(start, start + chunk)
        draws = Draws(IndexedRandom(seed, indices[rows]), labels[rows])
        images[rows] = photograph(paint(draws, height=height, width=width), draws)
    return images, labels


def _checked(indices: np.ndarray) -> np.ndarray:
    indices = np.asarray(indices)
    if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(f"expected [N] integer indices, got {indices.dtype} {indices.shape}")
    if indices.size and indices.min() < 0:
        raise ValueError(f"expected indices of 0 or more, got {indices.min()}")
    return indices.astype(np.int64)
