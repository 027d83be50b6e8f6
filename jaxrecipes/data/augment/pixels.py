"""Colour jitter, blur and noise of image batches in [0, 1], inside the jitted step.

Source: kornia's ColorJiggle, RandomGaussianBlur and RandomGaussianNoise. Each clip has its own
  draws, which its frames share (except for the noise); the order of the jitter's parts is drawn
  once per batch.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
from annotated_types import Interval
from jax.typing import ArrayLike

from jaxrecipes.backend import by_backend
from jaxrecipes.fields import (
    Checked,
    Count,
    Hparam,
    NonNegative,
    Positive,
    Probability,
    hparam,
    leaves_of,
)

Array = jax.Array
Planes = tuple[Array, Array, Array]


Turn = Annotated[float, Interval(ge=0, le=0.5)]
"""A share of the colour circle, either way."""


def _jitters(pixels: "PixelAugment") -> bool:
    return pixels.jitter_prob != 0


def _blurs(pixels: "PixelAugment") -> bool:
    return pixels.blur_prob != 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixelAugment(Checked):
    """Which operations there are, and their initial strengths.

    An operation whose probability is 0 here is not in the program, nor is the hue if `hue` is 0.

    Attributes:
      jitter_prob: probability of colour jitter.
      brightness: its factor is uniform in 1 +- this; likewise the next two.
      contrast: of the distance from the image's mean grey.
      saturation: of the distance from each pixel's grey.
      hue: the rotation is uniform in +- this share of the colour circle, at most 0.5.
      blur_prob: probability of a Gaussian blur.
      blur_sigma_min: its smallest standard deviation in pixels.
      blur_sigma_max: its largest.
      blur_size: side of its kernel in pixels, odd; static.
      noise_prob: probability of Gaussian noise.
      noise_std: its standard deviation.
    """

    jitter_prob: Hparam[Probability] = hparam(0.0, off_at_zero=True)
    brightness: Hparam[NonNegative] = hparam(0.2, when=_jitters)
    contrast: Hparam[NonNegative] = hparam(0.2, when=_jitters)
    saturation: Hparam[NonNegative] = hparam(0.1, when=_jitters)
    hue: Hparam[Turn] = hparam(0.0, when=_jitters, off_at_zero=True)
    blur_prob: Hparam[Probability] = hparam(0.0, off_at_zero=True)
    blur_sigma_min: Hparam[Positive] = hparam(0.3, when=_blurs)
    blur_sigma_max: Hparam[Positive] = hparam(1.0, when=_blurs)
    blur_size: Count = 5
    noise_prob: Hparam[Probability] = hparam(0.0, off_at_zero=True)
    noise_std: Hparam[NonNegative] = hparam(0.03, when=lambda pixels: pixels.noise_prob != 0)

    def __post_init__(self):
        super().__post_init__()
        if self.blur_size % 2 == 0:
            raise ValueError(f"blur_size is {self.blur_size}; expected an odd number of pixels")


PixelGroup = Literal["none", "color_jitter_only", "default", "with_gaussian_blur", "aggressive"]

GROUPS: dict[PixelGroup, PixelAugment] = {
    "none": PixelAugment(),
    "color_jitter_only": PixelAugment(jitter_prob=0.5),
    "default": PixelAugment(jitter_prob=0.5, noise_prob=0.5),
    "with_gaussian_blur": PixelAugment(jitter_prob=0.5, noise_prob=0.5, blur_prob=0.15),
    "aggressive": PixelAugment(
        jitter_prob=0.8,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
        blur_prob=0.3,
        blur_sigma_min=0.5,
        blur_sigma_max=2.0,
        blur_size=7,
        noise_prob=0.8,
        noise_std=0.05,
    ),
}


class Jitter(NamedTuple):
    """What colour jitter does to each image; factors of 1 and a rotation of 0 leave it unchanged.

    Attributes:
      brightness, contrast, saturation: `[B]` factors.
      hue: `[B]` rotation as a share of the colour circle, or None if it is not in the program.
    """

    brightness: Array
    contrast: Array
    saturation: Array
    hue: Array | None = None


def augment_pixels(
    key: Array,
    patch: Array,
    augment: PixelAugment,
    *,
    hparams: Mapping[str, ArrayLike] = MappingProxyType({}),
) -> Array:
    """Applies jitter, blur and noise, and clamps the result to [0, 1].

    Args:
      key: PRNG key.
      patch: `[B, ..., S, S, 3]` float32 in [0, 1], RGB.
      augment: which operations are in the program, and their numbers.
      hparams: scalars that may be traced; those named like fields of `augment` replace its numbers.

    Returns:
      The shape of `patch`.
    """
    numbers = {
        leaf.name: jnp.float32(hparams.get(leaf.name, leaf.value)) for leaf in leaves_of(augment)
    }
    jitter_key, blur_key, noise_key = jax.random.split(key, 3)
    batch = len(patch)
    planes: Planes = (patch[..., 0], patch[..., 1], patch[..., 2])
    if "jitter_prob" in numbers:
        jitter, order = draw_jitter(jitter_key, batch, numbers, hue="hue" in numbers)
        planes = jitter_colours(planes, jitter, order)
    if "blur_prob" in numbers:
        choice, strength = jax.random.uniform(blur_key, (2, batch), jnp.float32)
        low, high = numbers["blur_sigma_min"], numbers["blur_sigma_max"]
        sigma = low + jnp.subtract(high, low) * strength
        sigma = jnp.where(choice < numbers["blur_prob"], sigma, 0.0)
        planes = _each(lambda plane: blur(plane, sigma, size=augment.blur_size), planes)
    if "noise_prob" in numbers:
        choice_key, plane_key = jax.random.split(noise_key)
        on = jax.random.uniform(choice_key, (batch,), jnp.float32) < numbers["noise_prob"]
        std = _like(jnp.where(on, numbers["noise_std"], 0.0), planes[0])
        # A loop, because otherwise the CPU compiler would draw again for each use.
        noise = jax.lax.map(
            lambda key: std * _normals(key, planes[0].shape), jax.random.split(plane_key, 3)
        )
        planes = _each(jnp.add, planes, noise)
    return jnp.stack([jnp.clip(plane, 0.0, 1.0) for plane in planes], axis=-1)


def draw_jitter(
    key: Array, batch: int, numbers: Mapping[str, ArrayLike], *, hue: bool
) -> tuple[Jitter, Array]:
    """A `Jitter` per image, and the order of its parts `[4]` (3 without hue) for all of them."""
    choice_key, factor_key, order_key = jax.random.split(key, 3)
    on = jax.random.uniform(choice_key, (batch,), jnp.float32) < numbers["jitter_prob"]
    names = ("brightness", "contrast", "saturation", "hue")[: 4 if hue else 3]
    shares = jax.random.uniform(factor_key, (len(names), batch), jnp.float32, minval=-1.0)
    places = jnp.arange(len(names), dtype=jnp.int32)
    drawn = [jnp.where(on, numbers[name] * x, 0.0) for name, x in zip(names, shares, strict=True)]
    factors = [1.0 + x for x in drawn[:3]]
    return Jitter(*factors, *drawn[3:]), jax.random.permutation(order_key, places)


def jitter_colours(planes: Planes, jitter: Jitter, order: Array) -> Planes:
    """Changes brightness, contrast, saturation and hue, clamping after each of the first three.

    Args:
      planes: red, green and blue, `[B, ..., S, S]` float32 in [0, 1] each.
      jitter: for each image.
      order: `[4]` int, the order of 0 brightness, 1 contrast, 2 saturation, 3 hue; `[3]` without
        hue.
    """

    def per_image(values: Array) -> Array:
        return _like(values, planes[0])

    def blended(planes: Planes, base: Array | float, factor: Array) -> Planes:
        return _each(lambda x: jnp.clip(x * factor + base * (1.0 - factor), 0.0, 1.0), planes)

    def brightness(planes: Planes) -> Planes:
        return blended(planes, 0.0, per_image(jitter.brightness))

    def contrast(planes: Planes) -> Planes:
        mean = _grey(planes).mean(axis=(-2, -1), keepdims=True)
        return blended(planes, mean, per_image(jitter.contrast))

    def saturation(planes: Planes) -> Planes:
        return blended(planes, _grey(planes), per_image(jitter.saturation))

    parts = [brightness, contrast, saturation]
    if jitter.hue is not None:
        turn = per_image(jitter.hue)
        parts.append(lambda planes: turn_hue(planes, turn))

    def branch(part: Array, planes: Planes) -> Planes:
        return jax.lax.switch(part, parts, planes)

    def select(part: Array, planes: Planes) -> Planes:
        changed = [function(planes) for function in parts]
        return jax.tree.map(partial(jax.lax.select_n, part), *changed)

    for i in range(len(parts)):
        # A GPU's host would wait for the number of a branch; computing all parts costs less there.
        planes = by_backend(order[i], planes, cpu=branch, default=select)
    return planes


def turn_hue(planes: Planes, turn: Array) -> Planes:
    """Rotates the hue of RGB planes in [0, 1] by a share of the colour circle; value and saturation
    stay the same.
    """
    red, green, blue = planes
    high = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = high - jnp.minimum(jnp.minimum(red, green), blue)
    some = jnp.where(chroma > 0, chroma, 1.0)
    sextant = jnp.where(
        red == high,
        (green - blue) / some,
        jnp.where(green == high, 2.0 + (blue - red) / some, 4.0 + (red - green) / some),
    )
    sextant = sextant + 6.0 * turn

    def channel(start: float) -> Array:
        # Each channel is low over a third of the circle, high over a third, with ramps between.
        place = start + sextant
        place = place - 6.0 * jnp.floor(place / 6.0)  # on CPU several times faster than jnp.mod
        return high - chroma * jnp.clip(jnp.minimum(place, 4.0 - place), 0.0, 1.0)

    return channel(5.0), channel(3.0), channel(1.0)


def blur(plane: Array, sigma: Array, *, size: int) -> Array:
    """Gaussian blur, first horizontally, then vertically; the image is extended by reflection.

    Args:
      plane: `[B, ..., S, S]`.
      sigma: `[B]` pixels; images with 0 stay unchanged.
      size: side of the kernel, odd.
    """
    reach = size // 2
    offset = jnp.arange(-reach, reach + 1, dtype=jnp.float32)[None]
    centre = (offset == 0).astype(jnp.float32)
    blurred = sigma[:, None] > 0
    weights = jnp.exp(-0.5 * (offset / jnp.where(blurred, sigma[:, None], 1.0)) ** 2)
    weights = jnp.where(blurred, weights / weights.sum(-1, keepdims=True), centre)
    for axis in (plane.ndim - 1, plane.ndim - 2):
        sides = [(0, 0)] * plane.ndim
        sides[axis] = (reach, reach)
        padded = jnp.pad(plane, sides, mode="reflect")
        length = plane.shape[axis]
        plane = jnp.zeros_like(plane)
        for k in range(size):
            shifted = jax.lax.slice_in_dim(padded, k, k + length, axis=axis)
            plane = plane + _like(weights[:, k], plane) * shifted
    return plane


def _normals(key: Array, shape: tuple[int, ...]) -> Array:
    """Standard normal numbers from 16 random bits each, up to 4.2.

    On CPU this is several times faster than `jax.random.normal`, mostly because they are drawn
    without the shape.
    """
    size = math.prod(shape)
    words = jax.random.bits(key, ((size + 1) // 2,), jnp.uint32)
    halves = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[:size]
    uniform = (halves.astype(jnp.float32) + 0.5) / 32768.0 - 1.0
    return (math.sqrt(2.0) * jax.lax.erf_inv(uniform)).reshape(shape)


def _each(function: Callable[..., Array], *planes: Sequence[Array]) -> Planes:
    red, green, blue = map(function, *planes)
    return red, green, blue


def _grey(planes: Planes) -> Array:
    red, green, blue = planes
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _like(values: Array, images: Array) -> Array:
    """`[B]` made to broadcast against `[B, ...]`."""
    return values.reshape(-1, *(1,) * (images.ndim - 1))
