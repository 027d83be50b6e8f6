"""Augmentation of image batches inside the jitted step.

Every operation works on 8-bit levels, like torchvision on PIL images, draws separately for each
image, and takes its probability as a traced number that may follow a schedule. Which operations
exist is static: one that is off is not part of the program. Each operation folds its own number
into the key, so turning one on or off does not change the draws of the others.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipes.broadcasting import aligned
from jaxrecipes.data.augment import colour
from jaxrecipes.data.augment.clahe import clahe
from jaxrecipes.data.augment.map_selected import map_selected

Array = jax.Array

_FLIP, _CROP, _DISTORT, _CLAHE = range(4)
_PERMUTATIONS = np.array(list(itertools.permutations(range(3))), np.int32)


@dataclasses.dataclass(frozen=True)
class AugmentOps:
    """Which operations are in the program; their probabilities are hyperparameters.

    Attributes:
      flip: horizontal flip, probability `flip_prob`.
      crop: random crop back to the image's size after padding with zeros, `crop_prob`.
      distort: photometric distortion; `distort_prob` is the probability of each of its steps.
      clahe: adaptive histogram equalisation of the lightness, `clahe_prob`.
      crop_padding: pixels of zeros on each side before the crop.
    """

    flip: bool = True
    crop: bool = False
    distort: bool = True
    clahe: bool = True
    crop_padding: int = 4


class Distortion(NamedTuple):
    """What photometric distortion does to each image; a factor of 1 means that the step is left
    out.

    Attributes:
      brightness, contrast, saturation: `[B]` float32 factors.
      hue: `[B]` float32 shift as a fraction of the colour circle.
      hue_on: `[B]` bool; separate from `hue`, because even a shift of 0 passes through 8-bit HSV.
      contrast_first: `[B]` bool, contrast before saturation rather than after hue.
      permutation: `[B, 3]` int32, output channel k is input channel `permutation[k]`.
    """

    brightness: Array
    contrast: Array
    saturation: Array
    hue: Array
    hue_on: Array
    contrast_first: Array
    permutation: Array


def augment_images(
    key: Array, images: Array, hparams: Mapping[str, Array], *, ops: AugmentOps
) -> Array:
    """Flip, crop, distort, CLAHE, in this order (the original's, with the crop after the flip).

    Args:
      key: PRNG key; the same key and batch give the same result on any number of devices.
      images: `[B, H, W, 3]` uint8.
      hparams: `flip_prob`, `crop_prob`, `distort_prob`, `clahe_prob` in [0, 1], those of the
        operations in `ops`.
      ops: what is in the program.

    Returns:
      `[B, H, W, 3]` uint8.

    Raises:
      ValueError: a probability that `ops` needs is not among `hparams`.
    """
    switches = {"flip": ops.flip, "crop": ops.crop, "distort": ops.distort, "clahe": ops.clahe}
    needed = [f"{name}_prob" for name, on in switches.items() if on]
    missing = [name for name in needed if name not in hparams]
    if missing:
        raise ValueError(f"augmentation needs the hyperparameters {missing}, got {sorted(hparams)}")
    if ops.flip:
        images = random_flip(jax.random.fold_in(key, _FLIP), images, hparams["flip_prob"])
    if ops.crop:
        crop_key = jax.random.fold_in(key, _CROP)
        images = random_crop(crop_key, images, hparams["crop_prob"], padding=ops.crop_padding)
    if ops.distort:
        distort_key = jax.random.fold_in(key, _DISTORT)
        distortion = sample_distortion(distort_key, len(images), hparams["distort_prob"])
        images = distort(images, distortion)
    if ops.clahe:
        images = random_clahe(jax.random.fold_in(key, _CLAHE), images, hparams["clahe_prob"])
    return images


def normalize(
    images: Array, mean: Sequence[float] = (0.0, 0.0, 0.0), std: Sequence[float] = (1.0, 1.0, 1.0)
) -> Array:
    """`[..., 3]` uint8 -> float32, `(images / 255 - mean) / std`; by default [0, 1]."""
    return standardize(images.astype(jnp.float32) / 255.0, mean, std)


def standardize(images: Array, mean: Sequence[float], std: Sequence[float]) -> Array:
    """`(images - mean) / std` of the channels, `[..., C]` float32."""
    shift, scale = (aligned(jnp.array(x, jnp.float32), images) for x in (mean, std))
    return (images - shift) / scale


def random_flip(key: Array, images: Array, prob: Array | float) -> Array:
    """Mirrors left and right with probability `prob`, separately for each image."""
    flipped = jax.random.uniform(key, (len(images),), jnp.float32) < prob
    return jnp.where(flipped[:, None, None, None], images[:, :, ::-1], images)


def crop_at(images: Array, offsets: Array, *, padding: int) -> Array:
    """Pads with zeros and crops to the original size at `offsets` `[B, 2]` (top, left) int."""
    sides = (padding, padding)
    padded = jnp.pad(images, ((0, 0), sides, sides, (0, 0)))

    def cut(image: Array, offset: Array) -> Array:
        return jax.lax.dynamic_slice(
            image, (*offset, jnp.zeros((), offset.dtype)), images.shape[1:]
        )

    return jax.vmap(cut)(padded, offsets)


def random_crop(key: Array, images: Array, prob: Array | float, *, padding: int = 4) -> Array:
    """With probability `prob`, `crop_at` an offset uniform over 0..2*padding in each direction."""
    apply_key, offset_key = jax.random.split(key)
    cropped = jax.random.uniform(apply_key, (len(images),), jnp.float32) < prob
    offsets = jax.random.randint(offset_key, (len(images), 2), 0, 2 * padding + 1, jnp.int32)
    return crop_at(images, jnp.where(cropped[:, None], offsets, padding), padding=padding)


def sample_distortion(
    key: Array,
    batch: int,
    prob: Array | float,
    *,
    brightness: tuple[float, float] = (0.875, 1.125),
    contrast: tuple[float, float] = (0.5, 1.5),
    saturation: tuple[float, float] = (0.5, 1.5),
    hue: tuple[float, float] = (-0.05, 0.05),
) -> Distortion:
    """Draws a `Distortion` per image; the defaults are those of torchvision.

    Source: torchvision.transforms.v2.RandomPhotometricDistort. Each of the five steps is applied
      with probability `prob`; the position of contrast in the order is decided by a fair coin.
    """
    keys = jax.random.split(key, 3)
    on = jax.random.uniform(keys[0], (batch, 5), jnp.float32) < prob
    draws = jax.random.uniform(keys[1], (batch, 5), jnp.float32)
    permutation = jnp.asarray(_PERMUTATIONS)[jax.random.randint(keys[2], (batch,), 0, 6, jnp.int32)]

    def factor(column: int, limits: tuple[float, float]) -> Array:
        return limits[0] + (limits[1] - limits[0]) * draws[:, column]

    return Distortion(
        brightness=jnp.where(on[:, 0], factor(0, brightness), 1.0),
        contrast=jnp.where(on[:, 1], factor(1, contrast), 1.0),
        saturation=jnp.where(on[:, 2], factor(2, saturation), 1.0),
        hue=factor(3, hue),
        hue_on=on[:, 3],
        contrast_first=draws[:, 4] < 0.5,
        permutation=jnp.where(on[:, 4, None], permutation, jnp.arange(3, dtype=jnp.int32)[None]),
    )


def distort(images: Array, distortion: Distortion) -> Array:
    """Brightness, [contrast], saturation, hue, [contrast], channels: `[B, H, W, 3]` uint8."""
    first, factor = distortion.contrast_first, distortion.contrast
    planes = colour.split_planes(images)
    planes = colour.adjust_brightness(planes, distortion.brightness)
    planes = colour.adjust_contrast(planes, jnp.where(first, factor, 1.0))
    planes = colour.adjust_saturation(planes, distortion.saturation)
    words = map_selected(
        lambda words, hue: colour.pack(colour.adjust_hue(colour.unpack(words), hue)),
        colour.pack(planes),
        distortion.hue_on,
        distortion.hue,
        chunk=max(8, len(images) // 8),
    )
    planes = colour.adjust_contrast(colour.unpack(words), jnp.where(first, 1.0, factor))
    planes = colour.permute_channels(planes, distortion.permutation)
    return colour.join_planes(planes)


def random_clahe(key: Array, images: Array, prob: Array | float) -> Array:
    """CLAHE with probability `prob`, at a cost proportional to the number of selected images."""
    selected = jax.random.uniform(key, (len(images),), jnp.float32) < prob
    chunk = max(4, len(images) // 64)  # usually one chunk, at a rate of 1 %
    return map_selected(clahe, images, selected, chunk=chunk)
