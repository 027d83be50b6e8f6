"""8-bit colour arithmetic on planes: Pillow's results, batched and inside `jit`.

An image batch is three planes (red, green, blue), each `[B, H, W]` float32 holding whole numbers
0..255. Separate planes vectorise well; a trailing axis of size three does not. Every function takes
whole-numbered planes and returns whole-numbered planes, and agrees with Pillow (and so with
torchvision's transforms of PIL images) level by level; the two hue conversions do so for each of
the 2^24 colours.

XLA turns a division by a constant into a product with its reciprocal, so where the last bit of a
quotient decides a level, an exact residual is used.
"""

import jax
import jax.numpy as jnp

Array = jax.Array
Planes = tuple[Array, Array, Array]


def split_planes(images: Array) -> Planes:
    """`[..., H, W, 3]` uint8 -> three `[..., H, W]` float32 planes."""
    red, green, blue = (images[..., channel].astype(jnp.float32) for channel in range(3))
    return red, green, blue


def join_planes(planes: Planes) -> Array:
    """Three `[..., H, W]` float32 planes -> `[..., H, W, 3]` uint8."""
    # On CPU, reading words back as bytes is several times faster than a stack along the last axis,
    # into which XLA would fuse everything before it.
    return jax.lax.bitcast_convert_type(pack(planes), jnp.uint8)[..., :3]


def pack(planes: Planes) -> Array:
    """Three `[..., H, W]` float32 planes -> one uint32 word for each pixel."""
    red, green, blue = planes
    return (red + 256.0 * green + 65536.0 * blue).astype(jnp.uint32)  # exact, below 2^24


def unpack(words: Array) -> Planes:
    """The planes that `pack` packed."""
    red, green, blue = (((words >> shift) & 255).astype(jnp.float32) for shift in (0, 8, 16))
    return red, green, blue


def luma(planes: Planes) -> Array:
    """Grey level of each pixel (Pillow's mode L): 16-bit weights, rounded; exact in float32."""
    red, green, blue = planes
    return jnp.floor((19595.0 * red + 38470.0 * green + 7471.0 * blue + 32768.0) / 65536.0)


def _blend(background: Array | float, plane: Array, factor: Array) -> Array:
    # The factor is split, so that both products are exact and their sum is rounded like Pillow's
    # product, whether or not the compiler fuses products and sums.
    leading = jnp.floor(factor * 2048.0) / 2048.0
    distance = plane - background
    mixed = background + (leading * distance + (factor - leading) * distance)
    return jnp.floor(jnp.clip(mixed, 0.0, 255.0))  # Pillow truncates


def _per_image(values: Array) -> Array:
    return values[..., None, None]


def adjust_brightness(planes: Planes, factor: Array) -> Planes:
    """Scales by `factor` `[B]`; 1 leaves the image as it is (Pillow's ImageEnhance.Brightness)."""
    red, green, blue = (_blend(0.0, plane, _per_image(factor)) for plane in planes)
    return red, green, blue


def adjust_contrast(planes: Planes, factor: Array) -> Planes:
    """Moves away from the mean grey by `factor` `[B]` (Pillow's ImageEnhance.Contrast)."""
    grey = luma(planes).astype(jnp.int32)
    pixels = grey.shape[-1] * grey.shape[-2]
    total = grey.sum(axis=(-2, -1), keepdims=True, dtype=jnp.int32)
    mean = ((2 * total + pixels) // (2 * pixels)).astype(jnp.float32)  # int(mean + 0.5), exactly
    red, green, blue = (_blend(mean, plane, _per_image(factor)) for plane in planes)
    return red, green, blue


def adjust_saturation(planes: Planes, factor: Array) -> Planes:
    """Moves away from each pixel's grey by `factor` `[B]` (Pillow's ImageEnhance.Color)."""
    grey = luma(planes)
    red, green, blue = (_blend(grey, plane, _per_image(factor)) for plane in planes)
    return red, green, blue


def adjust_hue(planes: Planes, shift: Array) -> Planes:
    """Rotates the hue by `shift` `[B]`, a fraction of the colour circle in [-0.5, 0.5].

    The image passes through 8-bit HSV, which loses levels even at shift 0, as in torchvision.
    """
    hue, saturation, value = rgb_to_hsv(planes)
    hue = hue + _per_image(jnp.trunc(255.0 * shift))
    hue = hue - 256.0 * jnp.floor(hue / 256.0)
    return hsv_to_rgb((hue, saturation, value))


def permute_channels(planes: Planes, permutation: Array) -> Planes:
    """Output channel k is input channel `permutation[..., k]`; `permutation` is `[B, 3]` int."""
    red, green, blue = planes

    def pick(channel: int) -> Array:
        source = _per_image(permutation[..., channel])
        return jnp.where(source == 0, red, jnp.where(source == 1, green, blue))

    return pick(0), pick(1), pick(2)


def rgb_to_hsv(planes: Planes) -> Planes:
    """Pillow's 8-bit HSV: hue and saturation truncated to 0..255, value = the largest channel."""
    red, green, blue = planes
    largest = jnp.maximum(jnp.maximum(red, green), blue)
    smallest = jnp.minimum(jnp.minimum(red, green), blue)
    chroma = largest - smallest
    middle = red + green + blue - largest - smallest
    fraction = (largest - middle) / jnp.maximum(chroma, 1.0)
    sextant = jnp.where(
        red == largest,
        jnp.where(blue == smallest, 1.0 - fraction, fraction - 1.0),
        jnp.where(
            green == largest,
            jnp.where(blue == smallest, 1.0 + fraction, 3.0 - fraction),
            jnp.where(red == smallest, 3.0 + fraction, 5.0 - fraction),
        ),
    )
    turn = sextant * (1.0 / 6.0)
    # One correction step with the exact residual gives the correctly rounded sextant / 6.
    turn = turn + ((sextant - 4.0 * turn) - 2.0 * turn) * (1.0 / 6.0)
    turn = jnp.where(sextant < 0.0, turn + 1.0, turn)
    hue = jnp.where(chroma == 0.0, 0.0, _truncate_times_255(turn))
    saturation = _truncate_times_255(chroma / jnp.maximum(largest, 1.0))
    return hue, saturation, largest


def hsv_to_rgb(planes: Planes) -> Planes:
    """Converts back from Pillow's 8-bit HSV, rounding half up."""
    hue, saturation, value = planes
    angle = 6.0 * hue  # 255 to a sextant; red lies at 0, green at 510, blue at 1020
    strength = saturation * (1.0 / 65025.0)

    def channel(drop: Array) -> Array:
        return jnp.floor(value * (1.0 - strength * jnp.clip(drop, 0.0, 255.0)) + 0.5)

    return (
        channel(510.0 - jnp.abs(angle - 765.0)),
        channel(jnp.abs(angle - 510.0) - 255.0),
        channel(jnp.abs(angle - 1020.0) - 255.0),
    )


def _truncate_times_255(share: Array) -> Array:
    """floor(255 * share), with the exact product, for share in [0, 1]."""
    level = jnp.floor(share * 255.0)
    # The float32 product may round up to an integer that the exact product stays below.
    return level - ((256.0 * share - level) < share).astype(level.dtype)
