import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.data.augment.clahe import clahe
from jaxrecipes.data.augment.images import (
    AugmentOps,
    Distortion,
    augment_images,
    crop_at,
    distort,
    random_clahe,
    random_crop,
    random_flip,
    sample_distortion,
)

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).integers(0, 256, (24, 8, 12, 3), dtype=np.uint8)
ALL_OPS = AugmentOps(crop=True)
HPARAMS = {"flip_prob": 0.5, "crop_prob": 0.7, "distort_prob": 0.5, "clahe_prob": 0.3}
HPARAMS = {name: jnp.float32(value) for name, value in HPARAMS.items()}

traces = []


@functools.partial(jax.jit, static_argnames="ops")
def augment(key, images, hparams, *, ops):
    traces.append(ops)
    return augment_images(key, images, hparams, ops=ops)


def as_distortion(params):
    def factor(name, off):
        value = params[f"{name}_factor"]
        return jnp.array([off if value is None else value], jnp.float32)

    return Distortion(
        brightness=factor("brightness", 1.0),
        contrast=factor("contrast", 1.0),
        saturation=factor("saturation", 1.0),
        hue=factor("hue", 0.0),
        hue_on=jnp.array([params["hue_factor"] is not None]),
        contrast_first=jnp.array([params["contrast_before"]]),
        permutation=jnp.array([params["channel_permutation"] or [0, 1, 2]]),
    )


def test_the_whole_distortion_matches_the_golden_arrays_exactly(golden):
    arrays = golden("ocec/preprocess_color")
    for i in range(3):
        run = jax.jit(distort)
        for k in range(5):
            params = as_distortion(json.loads(str(arrays[f"distort/{i}/{k}/params_json"])))
            out = run(arrays[f"color/{i}/in"][None], params)
            np.testing.assert_array_equal(out[0], arrays[f"distort/{i}/{k}/out"])


def test_the_flip_matches_the_golden_arrays(golden):
    arrays = golden("ocec/preprocess_color")
    for i in range(3):
        out = random_flip(KEY, arrays[f"color/{i}/in"][None], 1.0)
        np.testing.assert_array_equal(out[0], arrays[f"color/{i}/hflip"])


def test_the_padded_crop_matches_the_golden_arrays(golden):
    arrays = golden("torch_semantics/augment")
    images = arrays["crop/x"].transpose(0, 2, 3, 1)
    for offset, wanted in zip(arrays["crop/offsets_top_left"], arrays["crop/y"], strict=True):
        out = crop_at(images, np.tile(offset, (len(images), 1)), padding=4)
        np.testing.assert_array_equal(out, wanted.transpose(0, 2, 3, 1))


def test_probability_zero_changes_nothing():
    nothing = {name: jnp.float32(0) for name in HPARAMS}
    np.testing.assert_array_equal(augment(KEY, IMAGES, nothing, ops=ALL_OPS), IMAGES)


def test_probability_one_flips_and_equalises_every_image():
    np.testing.assert_array_equal(random_flip(KEY, IMAGES, 1.0), IMAGES[:, :, ::-1])
    out = jax.jit(random_clahe)(KEY, IMAGES, 1.0)
    np.testing.assert_array_equal(out, jax.jit(clahe)(IMAGES))


def test_crop_offsets_cover_their_range():
    marked = np.zeros((2000, 9, 9, 1), np.uint8)
    marked[:, 4, 4] = 1
    places = np.argwhere(np.asarray(random_crop(KEY, marked, 1.0))[..., 0])
    for side in (1, 2):
        counts = np.bincount(places[:, side], minlength=9)
        assert counts.min() > 0.7 * 2000 / 9


def test_distortion_draws_have_torchvisions_rates_and_ranges():
    draws = sample_distortion(KEY, 8000, 0.5)
    for factor, low, high in (
        (draws.brightness, 0.875, 1.125),
        (draws.contrast, 0.5, 1.5),
        (draws.saturation, 0.5, 1.5),
    ):
        on = np.asarray(factor) != 1.0
        assert np.mean(on) == pytest.approx(0.5, abs=0.03)
        values = np.asarray(factor)[on]
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high >= values.max() > high - 0.02 * (high - low)
    assert np.mean(draws.hue_on) == pytest.approx(0.5, abs=0.03)
    assert np.abs(draws.hue).max() == pytest.approx(0.05, rel=0.01)
    assert np.mean(draws.contrast_first) == pytest.approx(0.5, abs=0.03)
    codes = np.asarray(draws.permutation) @ [9, 3, 1]
    names, counts = np.unique(codes, return_counts=True)
    shares = dict(zip(names.tolist(), (counts / 8000).tolist(), strict=True))
    assert len(shares) == 6
    identity = shares.pop(5)
    assert identity == pytest.approx(0.5 + 0.5 / 6, abs=0.03)
    assert all(share == pytest.approx(0.5 / 6, abs=0.02) for share in shares.values())


def test_a_key_gives_the_same_images_again_and_another_key_others():
    first = augment(KEY, IMAGES, HPARAMS, ops=ALL_OPS)
    np.testing.assert_array_equal(first, augment(KEY, IMAGES, HPARAMS, ops=ALL_OPS))
    assert (first != augment(jax.random.key(1), IMAGES, HPARAMS, ops=ALL_OPS)).any()


def test_switching_one_operation_leaves_the_draws_of_the_others():
    only_flip = AugmentOps(distort=False, clahe=False)
    off = ("distort_prob", "clahe_prob", "crop_prob")
    hparams = HPARAMS | dict.fromkeys(off, jnp.float32(0))
    np.testing.assert_array_equal(
        augment(KEY, IMAGES, hparams, ops=only_flip), augment(KEY, IMAGES, hparams, ops=ALL_OPS)
    )


def test_probabilities_change_without_a_new_trace():
    for prob in (0.0, 0.3, 1.0):
        augment(KEY, IMAGES, dict.fromkeys(HPARAMS, jnp.float32(prob)), ops=ALL_OPS)
    assert traces.count(ALL_OPS) == 1


def test_vmap_over_hyperparameters_equals_separate_runs():
    probs = jnp.array([0.0, 0.5, 1.0])
    stacked = dict.fromkeys(HPARAMS, probs)
    ops = AugmentOps(crop=True, clahe=False)  # CLAHE under vmap: see test_clahe.py
    run = jax.vmap(lambda hparams: augment_images(KEY, IMAGES, hparams, ops=ops))
    together = jax.jit(run)(stacked)
    for index, prob in enumerate(probs):
        hparams = dict.fromkeys(HPARAMS, prob) | {"clahe_prob": jnp.float32(0)}
        alone = augment(KEY, IMAGES, hparams, ops=ALL_OPS)
        np.testing.assert_array_equal(together[index], alone)


def test_a_missing_probability_is_named():
    with pytest.raises(ValueError, match=r"\['clahe_prob'\]"):
        augment_images(KEY, IMAGES, {"flip_prob": 0.5, "distort_prob": 0.5}, ops=AugmentOps())
