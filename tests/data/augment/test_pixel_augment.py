import colorsys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.data.augment.pixels import (
    GROUPS,
    Jitter,
    PixelAugment,
    augment_pixels,
    blur,
    jitter_colours,
    turn_hue,
)
from jaxrecipes.fields import leaves_of


@pytest.fixture(scope="module")
def arrays(golden):
    return golden("hand_pose/pixel_aug")


@pytest.fixture(scope="module")
def images(arrays):
    return jnp.moveaxis(arrays["in/img"], 1, -1)


@pytest.mark.parametrize("case", ["always", "half"])
def test_colour_jitter_equals_the_original(arrays, case):
    on = arrays[f"draw/{case}/batch_prob"] > 0.5
    factors = np.zeros((4, 5), np.float32)
    for i, name in enumerate(("brightness", "contrast", "saturation", "hue")):
        factors[i] = i < 3  # a factor of 1, a turn of 0
        factors[i, on] = arrays[f"draw/{case}/{name}_factor"]
    planes = tuple(np.moveaxis(arrays["in/img"], 1, 0))
    found = jax.jit(jitter_colours)(planes, Jitter(*factors), arrays[f"draw/{case}/order"])
    np.testing.assert_allclose(np.stack(found, 1), arrays[f"out/{case}"], atol=2e-6)


def test_hue_is_turned_on_the_colour_circle():
    colours = np.array([[0.9, 0.2, 0.1], [0.1, 0.8, 0.3], [0.2, 0.3, 0.7], [0.5, 0.5, 0.5]])
    turns = np.array([0.1, -0.4, 0.5, 0.3])
    found = np.stack(jax.jit(turn_hue)(tuple(colours.T), turns), -1)
    for colour, turn, actual in zip(colours, turns, found, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*colour)
        expected = colorsys.hsv_to_rgb((hue + turn) % 1.0, saturation, value)
        np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_blur_is_a_gaussian_and_leaves_images_of_sigma_0_alone():
    images = np.zeros((3, 11, 11), np.float32)
    images[:2, 5, 5] = 1.0
    images[2] = 1.0
    sigma = np.array([0.8, 0.0, 1.0], np.float32)
    found = np.asarray(jax.jit(partial(blur, size=5))(images, sigma))
    np.testing.assert_array_equal(found[1], images[1])
    np.testing.assert_allclose(found[2], 1.0, atol=1e-6)
    row = np.exp(-0.5 * (np.arange(-2, 3) / 0.8) ** 2)
    row /= row.sum()
    np.testing.assert_allclose(found[0, 3:8, 3:8], np.outer(row, row), atol=1e-7)


@pytest.fixture(scope="module")
def aggressive():
    return jax.jit(
        lambda key, patch, hparams: augment_pixels(
            key, patch, GROUPS["aggressive"], hparams=hparams
        )
    )


def numbers(group):
    return {leaf.name: leaf.value for leaf in leaves_of(GROUPS[group])}


def test_probabilities_and_strengths_are_data(aggressive, images):
    hparams = numbers("aggressive")
    off = hparams | {"jitter_prob": 0.0, "noise_prob": 0.0, "blur_prob": 0.0}
    np.testing.assert_allclose(aggressive(jax.random.key(0), images, off), images, atol=2e-6)
    found = aggressive(jax.random.key(0), images, hparams)
    assert aggressive._cache_size() == 1
    assert found.min() >= 0.0
    assert found.max() <= 1.0
    assert np.abs(found - images).max() > 0.05


def test_frames_share_their_clips_draws(aggressive, images):
    clips = jnp.stack([images, images], axis=1)
    hparams = numbers("aggressive") | {"noise_prob": 0.0}
    found = aggressive(jax.random.key(1), clips, hparams)
    np.testing.assert_allclose(found[:, 0], found[:, 1], atol=1e-6)


def test_noise_has_its_standard_deviation_and_half_of_the_images():
    augment = PixelAugment(noise_prob=0.5, noise_std=0.03)
    grey = jnp.full((64, 8, 8, 3), 0.5)
    found = jax.jit(partial(augment_pixels, augment=augment))(jax.random.key(3), grey)
    std = np.asarray(found).std(axis=(1, 2, 3))
    noisy = std > 0
    assert 20 <= noisy.sum() <= 44
    np.testing.assert_allclose(std[noisy].mean(), 0.03, rtol=0.03)


def test_groups_hold_only_the_numbers_of_their_operations():
    assert numbers("none") == {}
    assert "hue" not in numbers("default")
    assert numbers("with_gaussian_blur")["blur_prob"] == 0.15
    with pytest.raises(ValueError, match="blur_size"):
        PixelAugment(blur_size=4)
