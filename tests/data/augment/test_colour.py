import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from jaxrecipes.data.augment import colour

STEPS = {
    "brightness": colour.adjust_brightness,
    "contrast": colour.adjust_contrast,
    "saturation": colour.adjust_saturation,
    "hue": colour.adjust_hue,
}


@functools.partial(jax.jit, static_argnums=0)
def run(function, images, *arguments):
    return colour.join_planes(function(colour.split_planes(images), *arguments))


def apply(function, images, *arguments):
    return np.asarray(run(function, images, *arguments))


@pytest.mark.parametrize("step", STEPS)
def test_colour_steps_match_the_golden_arrays_exactly(golden, step):
    arrays = golden("ocec/preprocess_color")
    for i in range(3):
        factors = arrays[f"color/{i}/{step}/factors"].astype(np.float32)
        images = np.repeat(arrays[f"color/{i}/in"][None], len(factors), axis=0)
        out = apply(STEPS[step], images, factors)
        np.testing.assert_array_equal(out, arrays[f"color/{i}/{step}/out"])


def test_channel_permutations_match_the_golden_arrays(golden):
    arrays = golden("ocec/preprocess_color")
    for i in range(3):
        for k in range(3):
            permutation = arrays[f"color/{i}/perm/{k}/perm"][None]
            out = apply(colour.permute_channels, arrays[f"color/{i}/in"][None], permutation)
            np.testing.assert_array_equal(out[0], arrays[f"color/{i}/perm/{k}/out"])


def test_every_hsv_colour_becomes_pillows_rgb():
    levels = np.arange(256, dtype=np.uint8)
    for hues in np.split(levels, 8):
        grid = np.stack(np.meshgrid(hues, levels, levels, indexing="ij"), axis=-1)
        grid = grid.reshape(-1, 256, 3)
        wanted = np.asarray(
            Image.frombytes("HSV", grid.shape[1::-1], grid.tobytes()).convert("RGB")
        )
        np.testing.assert_array_equal(apply(colour.hsv_to_rgb, grid), wanted)


def test_rgb_becomes_pillows_hsv_for_every_ratio_of_channels():
    # Hue depends on two differences and saturation on smallest and largest: with the largest
    # channel at 255 and at a few lower levels every quotient appears.
    for largest in (255, 254, 170, 85, 51, 10, 1, 0):
        levels = np.minimum(np.arange(256), largest).astype(np.uint8)
        first, second = np.meshgrid(levels, levels, indexing="ij")
        top = np.full_like(first, largest)
        for channels in ((top, first, second), (first, top, second), (first, second, top)):
            pixels = np.stack(channels, axis=-1)
            wanted = np.asarray(Image.fromarray(pixels).convert("HSV"))
            np.testing.assert_array_equal(apply(colour.rgb_to_hsv, pixels), wanted)


@pytest.mark.parametrize("step", ["brightness", "contrast", "saturation"])
def test_random_factors_match_pillow_exactly(step):
    enhance = {
        "brightness": ImageEnhance.Brightness,
        "contrast": ImageEnhance.Contrast,
        "saturation": ImageEnhance.Color,
    }[step]
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 32, 48, 3), dtype=np.uint8)
    factors = rng.uniform(0.0, 2.0, 64).astype(np.float32)
    out = apply(STEPS[step], images, factors)
    for image, factor, result in zip(images, factors, out, strict=True):
        wanted = np.asarray(enhance(Image.fromarray(image)).enhance(float(factor)))
        np.testing.assert_array_equal(result, wanted)


def test_a_factor_of_one_changes_nothing():
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3), dtype=np.uint8)
    for step in ("brightness", "contrast", "saturation"):
        np.testing.assert_array_equal(apply(STEPS[step], images, jnp.ones(2)), images)
