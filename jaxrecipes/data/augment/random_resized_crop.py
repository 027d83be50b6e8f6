"""Random resized crops of image batches inside the jitted step, drawn as torchvision draws them and
resampled as Pillow does.
"""

import math

import jax
import jax.numpy as jnp

Array = jax.Array

RATIO = (3.0 / 4.0, 4.0 / 3.0)
"""Smallest and largest width / height of a crop."""
_TRIES = 10


def random_resized_crop(
    key: Array,
    images: Array,
    sizes: Array,
    *,
    scale: tuple[Array | float, Array | float],
    size: tuple[int, int],
) -> Array:
    """Crops each image at random and resizes the crop.

    Args:
      key: PRNG key.
      images: `[B, H, W, 3]` uint8, each a complete original, squashed to the common stored size.
      sizes: `[B, 2]` int32, height and width of the originals, for which crops are drawn.
      scale: smallest and largest share of the area of a crop.
      size: height and width of the result.

    Returns:
      `[B, *size, 3]` uint8.
    """
    boxes = crop_boxes(key, sizes, scale=scale).astype(jnp.float32)
    stored = jnp.array(images.shape[1:3], jnp.float32)
    return resize_boxes(
        images, boxes * jnp.tile(stored[None] / sizes.astype(jnp.float32), (1, 2)), size=size
    )


def crop_boxes(
    key: Array,
    sizes: Array,
    *,
    scale: tuple[Array | float, Array | float],
    ratio: tuple[float, float] = RATIO,
) -> Array:
    """Draws crops, with the distribution of torchvision.transforms.RandomResizedCrop.

    The area is uniform in `scale`, and width / height log-uniform in `ratio`. The first of ten
    tries that fits into the image is used, at a uniform position; if none does, the central crop
    with the image's own proportions, limited to `ratio`.

    Args:
      key: PRNG key.
      sizes: `[B, 2]` int32, height and width of the images.
      scale: smallest and largest share of the area.
      ratio: smallest and largest width / height.

    Returns:
      `[B, 4]` int32: top, left, height, width.
    """
    area_key, ratio_key, top_key, left_key = jax.random.split(key, 4)
    shape = (len(sizes), _TRIES)
    height, width = sizes[:, 0, None], sizes[:, 1, None]
    low, high = scale
    share = low + (high - low) * jax.random.uniform(area_key, shape, jnp.float32)
    area = share * (height * width).astype(jnp.float32)
    log_ratio = jax.random.uniform(
        ratio_key, shape, jnp.float32, minval=math.log(ratio[0]), maxval=math.log(ratio[1])
    )
    proportion = jnp.exp(log_ratio)
    tried_width = jnp.round(jnp.sqrt(area * proportion)).astype(jnp.int32)
    tried_height = jnp.round(jnp.sqrt(area / proportion)).astype(jnp.int32)
    fits = (tried_width > 0) & (tried_width <= width)
    fits &= (tried_height > 0) & (tried_height <= height)
    first = jnp.argmax(fits, axis=1, keepdims=True)
    any_fits = fits.any(axis=1)
    tried_height, tried_width = (
        jnp.take_along_axis(tried, first, axis=1)[:, 0] for tried in (tried_height, tried_width)
    )

    height, width = sizes[:, 0], sizes[:, 1]
    most_height = jnp.round(width.astype(jnp.float32) / ratio[0]).astype(jnp.int32)
    most_width = jnp.round(height.astype(jnp.float32) * ratio[1]).astype(jnp.int32)
    central_height, central_width = jnp.minimum(height, most_height), jnp.minimum(width, most_width)
    crop_height = jnp.where(any_fits, tried_height, central_height)
    crop_width = jnp.where(any_fits, tried_width, central_width)
    room = height - crop_height, width - crop_width
    top, left = (
        jnp.where(any_fits, jax.random.randint(k, r.shape, 0, r + 1, jnp.int32), r // 2)
        for k, r in zip((top_key, left_key), room, strict=True)
    )
    return jnp.stack([top, left, crop_height, crop_width], axis=1)


def resize_boxes(images: Array, boxes: Array, *, size: tuple[int, int]) -> Array:
    """Cuts a box out of each image and resizes it, bilinear and antialiased like Pillow.

    For integer boxes the result is within a level of `image.crop(box).resize(size, BILINEAR)`,
    which rounds after the horizontal and after the vertical pass.

    Args:
      images: `[B, H, W, C]` uint8.
      boxes: `[B, 4]` float32: top, left, height, width in pixels; they may be fractions.
      size: height and width of the result.

    Returns:
      `[B, *size, C]` uint8.
    """
    across = _weights(images.shape[2], boxes[:, 1], boxes[:, 3], size[1])
    down = _weights(images.shape[1], boxes[:, 0], boxes[:, 2], size[0])
    levels = images.astype(jnp.float32)
    # Full float32 products, because a GPU's reduced precision is off by more than a level.
    precision = jax.lax.Precision.HIGHEST
    levels = _round(jnp.einsum("bow,bhwc->bhoc", across, levels, precision=precision))
    levels = _round(jnp.einsum("boh,bhwc->bowc", down, levels, precision=precision))
    return levels.astype(jnp.uint8)


def _weights(pixels: int, start: Array, length: Array, outputs: int) -> Array:
    """`[B, outputs, pixels]`: a triangle around each output's centre, two output pixels wide when
    shrinking, over the pixels in the box, normalised to sum to 1.
    """
    step = length[:, None, None] / outputs
    centre = (
        start[:, None, None] + (jnp.arange(outputs, dtype=jnp.float32)[None, :, None] + 0.5) * step
    )
    pixel = (jnp.arange(pixels, dtype=jnp.float32) + 0.5)[None, None]
    triangle = jnp.maximum(1.0 - jnp.abs(pixel - centre) / jnp.maximum(step, 1.0), 0.0)
    start, end = start[:, None, None], (start + length)[:, None, None]
    # Pixels that the box only touches count; an integer box has none.
    box = (pixel + 0.5 > start) & (pixel - 0.5 < end)
    weights = jnp.where(box, triangle, 0.0)
    return weights / jnp.maximum(weights.sum(axis=-1, keepdims=True), 1e-6)


def _round(levels: Array) -> Array:
    return jnp.floor(jnp.clip(levels, 0.0, 255.0) + 0.5)
