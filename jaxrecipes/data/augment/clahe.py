"""Contrast-limited adaptive histogram equalisation (CLAHE) of the lightness, inside `jit`.

Reproduces OpenCV's 8-bit arithmetic: RGB -> LAB in fixed point (exact), equalisation of L over a
grid of tiles (exact except for ties that fused multiply-adds decide differently), LAB -> RGB in
floating point (within one level). Source: K. Zuiderveld, "Contrast Limited Adaptive Histogram
Equalization", Graphics Gems IV, 1994.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipes.data.augment.colour import join_planes

Array = jax.Array

_WHITE = np.array([0.950456, 1.0, 1.088754])  # D65
_RGB_TO_XYZ = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)
_XYZ_TO_RGB = np.array(
    [
        [3.240479, -1.53715, -0.498535],
        [-0.969256, 1.875991, 0.041556],
        [0.055648, -0.204043, 1.057311],
    ]
)


def _gamma_table() -> np.ndarray:
    """256 entries: linear light times 255, with 3 fractional bits."""
    level = np.arange(256) / 255.0
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    return np.rint(255.0 * 8 * linear).astype(np.int32)


def _cube_root_table() -> np.ndarray:
    """3072 entries over linear light (3 fractional bits): LAB's f(t) with 15 fractional bits.

    Rounded from float32, as in OpenCV, which matters for a few entries that are almost ties.
    """
    light = np.arange(3072, dtype=np.float32) * np.float32(1.0 / (255 * 8))
    dark = light * np.float32(7.787) + np.float32(16.0 / 116.0)
    root = np.where(light < np.float32(0.008856), dark, np.cbrt(light))
    return np.rint(np.float32(32768.0) * root).astype(np.int32)


_GAMMA = _gamma_table()
_CUBE_ROOT = _cube_root_table()
_XYZ_WEIGHTS = np.rint(4096.0 * _RGB_TO_XYZ / _WHITE[:, None]).astype(np.int32)


def _descale(value: Array, bits: int) -> Array:
    return (value + (1 << (bits - 1))) >> bits


def rgb_to_lab(images: Array) -> tuple[Array, Array, Array]:
    """`[..., 3]` uint8 RGB -> L, a, b as int32 0..255 (OpenCV's 8-bit LAB, level by level)."""
    red, green, blue = (jnp.asarray(_GAMMA)[images[..., channel]] for channel in range(3))

    def root(row: int) -> Array:
        weights = [int(weight) for weight in _XYZ_WEIGHTS[row]]
        light = red * weights[0] + green * weights[1] + blue * weights[2]
        return jnp.asarray(_CUBE_ROOT)[_descale(light, 12)]

    root_x, root_y, root_z = root(0), root(1), root(2)
    lightness = _descale(296 * root_y - 1336935, 15)  # 116 * 255 / 100 and 16 * 255 / 100 * 2^15
    green_red = _descale(500 * (root_x - root_y) + (128 << 15), 15)
    blue_yellow = _descale(200 * (root_y - root_z) + (128 << 15), 15)
    return jnp.clip(lightness, 0, 255), jnp.clip(green_red, 0, 255), jnp.clip(blue_yellow, 0, 255)


def lab_to_rgb(lightness: Array, green_red: Array, blue_yellow: Array) -> Array:
    """8-bit L, a, b `[...]` -> `[..., 3]` uint8 RGB; within one level of OpenCV."""
    light = lightness.astype(jnp.float32) * (100.0 / 255.0)
    dark = light <= 8.0
    y = jnp.where(dark, light / 903.3, ((light + 16.0) / 116.0) ** 3)
    root_y = jnp.where(dark, 7.787 * y + 16.0 / 116.0, (light + 16.0) / 116.0)

    def cube(root: Array) -> Array:
        return jnp.where(root <= 0.206893, (root - 16.0 / 116.0) / 7.787, root**3)

    x = cube(root_y + (green_red.astype(jnp.float32) - 128.0) / 500.0) * float(_WHITE[0])
    z = cube(root_y - (blue_yellow.astype(jnp.float32) - 128.0) / 200.0) * float(_WHITE[2])

    def channel(row: int) -> Array:
        weights = [float(weight) for weight in _XYZ_TO_RGB[row]]
        linear = jnp.clip(weights[0] * x + weights[1] * y + weights[2] * z, 0.0, 1.0)
        curved = 1.055 * jnp.maximum(linear, 1e-6) ** (1.0 / 2.4) - 0.055
        level = jnp.where(linear <= 0.0031308, 12.92 * linear, curved)
        return jnp.round(255.0 * level)

    return join_planes((channel(0), channel(1), channel(2)))


def _tile_tables(tiles: Array, clip_limit: Array | float) -> Array:
    """Look-up tables `[B, T, 256]` float32 of the tiles `[B, T, A]` int32 (A pixels each)."""
    batch, count, area = tiles.shape
    histogram = jnp.zeros((batch, count, 256), jnp.int32)
    rows, columns = (jnp.arange(size, dtype=jnp.int32) for size in (batch, count))
    histogram = histogram.at[rows[:, None, None], columns[None, :, None], tiles].add(1)
    limit = jnp.maximum(jnp.floor(jnp.float32(clip_limit) * area / 256.0), 1.0).astype(jnp.int32)
    excess = jnp.maximum(histogram - limit, 0).sum(axis=-1, keepdims=True, dtype=jnp.int32)
    share, residual = excess // 256, excess % 256
    # The remainder goes one by one to every `stride`-th level.
    stride = jnp.maximum(256 // jnp.maximum(residual, 1), 1)
    level = jnp.arange(256, dtype=jnp.int32)[None, None]
    extra = (level % stride == 0) & (level // stride < residual)
    clipped = jnp.minimum(histogram, limit) + share + extra.astype(jnp.int32)
    level = jnp.cumsum(clipped, axis=-1, dtype=jnp.int32).astype(jnp.float32)
    return jnp.clip(jnp.round(level * np.float32(255.0 / area)), 0.0, 255.0)


def _neighbours(size: int, tile: int, count: int) -> tuple[np.ndarray, ...]:
    """For each pixel, the tiles before and after it, and their weights, float32."""
    position = np.arange(size, dtype=np.float32) * np.float32(1.0 / tile) - np.float32(0.5)
    before = np.floor(position).astype(np.int32)
    weight = position - before  # float64
    places = np.maximum(before, 0), np.minimum(before + 1, count - 1)
    return *places, (1.0 - weight).astype(np.float32), weight.astype(np.float32)


def equalize_lightness(
    lightness: Array, *, clip_limit: Array | float = 2.0, tiles: tuple[int, int] = (4, 4)
) -> Array:
    """CLAHE of one plane per image.

    Args:
      lightness: `[B, H, W]` int32 levels 0..255.
      clip_limit: histogram limit in units of a flat histogram; may be traced.
      tiles: rows and columns of the tile grid. If a side is not divisible, both are extended to the
        bottom and right by reflection (as in OpenCV).

    Returns:
      `[B, H, W]` int32 levels.
    """
    batch, height, width = lightness.shape
    rows, columns = tiles
    padded = lightness
    if height % rows or width % columns:
        below, right = rows - height % rows, columns - width % columns
        padded = jnp.pad(lightness, ((0, 0), (0, below), (0, right)), mode="reflect")
    tile_height, tile_width = padded.shape[1] // rows, padded.shape[2] // columns
    tiled = padded.reshape(batch, rows, tile_height, columns, tile_width)
    tiled = tiled.transpose(0, 1, 3, 2, 4).reshape(batch, rows * columns, -1)
    tables = _tile_tables(tiled, clip_limit)

    top, bottom, *shares = _neighbours(height, tile_height, rows)
    upper_share, lower_share = (share[None, :, None] for share in shares)
    start, end, *shares = _neighbours(width, tile_width, columns)
    left_share, right_share = (share[None, None, :] for share in shares)
    image = jnp.arange(batch, dtype=jnp.int32)[:, None, None]

    def look_up(row: np.ndarray, column: np.ndarray) -> Array:
        return tables[image, (row[:, None] * columns + column[None, :])[None], lightness]

    upper = look_up(top, start) * left_share + look_up(top, end) * right_share
    lower = look_up(bottom, start) * left_share + look_up(bottom, end) * right_share
    blended = upper * upper_share + lower * lower_share
    return jnp.clip(jnp.round(blended), 0.0, 255.0).astype(jnp.int32)


def clahe(
    images: Array, *, clip_limit: Array | float = 2.0, tiles: tuple[int, int] = (4, 4)
) -> Array:
    """CLAHE on L of LAB, keeping the colour: `[B, H, W, 3]` uint8 -> the same."""
    lightness, green_red, blue_yellow = rgb_to_lab(images)
    lightness = equalize_lightness(lightness, clip_limit=clip_limit, tiles=tiles)
    return lab_to_rgb(lightness, green_red, blue_yellow)
