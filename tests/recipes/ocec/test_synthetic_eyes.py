import hashlib
import subprocess
import sys

import numpy as np
import pytest

from jaxrecipes.data.indexed_random import IndexedRandom
from jaxrecipes.recipes.ocec.eyes import geometry as synthetic_eyes_geometry
from jaxrecipes.recipes.ocec.eyes import ranges as synthetic_eyes_ranges
from jaxrecipes.recipes.ocec.eyes.draw import draw_eyes, eye_labels

SIZE = {"height": 24, "width": 40}


@pytest.fixture(scope="module")
def eyes() -> tuple[np.ndarray, np.ndarray]:
    return draw_eyes(0, np.arange(2000), **SIZE)


def test_an_image_depends_on_neither_count_nor_order_nor_batch(eyes):
    images, labels = eyes
    indices = np.array([300, 7, 1999, 7, 0, 128, 127])
    again, labels_again = draw_eyes(0, indices, **SIZE)
    np.testing.assert_array_equal(again, images[indices])
    np.testing.assert_array_equal(labels_again, labels[indices])
    for index in (0, 7, 127, 128, 1999):
        alone, _ = draw_eyes(0, np.array([index]), **SIZE)
        np.testing.assert_array_equal(alone[0], images[index])


def test_another_process_draws_the_same_bytes():
    program = (
        "import hashlib, numpy; from jaxrecipes.recipes.ocec.eyes.draw import draw_eyes;"
        "images, _ = draw_eyes(3, numpy.arange(40, 60), height=24, width=24);"
        "print(hashlib.sha256(images.tobytes()).hexdigest())"
    )
    there = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    here, _ = draw_eyes(3, np.arange(40, 60), height=24, width=24)
    assert there.stdout.strip() == hashlib.sha256(here.tobytes()).hexdigest()


def test_every_seed_is_another_population(eyes):
    other, _ = draw_eyes(1, np.arange(50), **SIZE)
    assert (np.abs(other.astype(int) - eyes[0][:50]).mean(axis=(1, 2, 3)) > 2).all()


def test_no_image_comes_twice(eyes):
    assert len({image.tobytes() for image in eyes[0]}) == len(eyes[0])


@pytest.mark.parametrize("seed", [0, 1, -5, 2**63])
def test_each_pair_of_indices_holds_one_of_each_class(seed):
    labels = eye_labels(seed, np.arange(1000))
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels.reshape(-1, 2).sum(axis=1), 1)
    assert 350 < 1000 * labels[::2].mean() < 650  # the order within a pair is random


@pytest.mark.parametrize("size", [(24, 24), (24, 40), (32, 64), (32, 48), (8, 8), (48, 9)])
def test_any_size_can_be_drawn(size):
    images, labels = draw_eyes(0, np.arange(6), height=size[0], width=size[1])
    assert images.shape == (6, *size, 3)
    assert images.dtype == np.uint8
    assert labels.shape == (6,)


def test_no_indices_give_no_images():
    images, labels = draw_eyes(0, np.arange(0), **SIZE)
    assert images.shape == (0, 24, 40, 3)
    assert labels.shape == (0,)


def test_every_picture_shows_something(eyes):
    assert (eyes[0].std(axis=(1, 2, 3)) > 8).all()


def test_some_pictures_are_grey_and_most_are_not(eyes):
    spread = np.ptp(eyes[0].astype(int), axis=-1).max(axis=(1, 2))
    share = (spread <= 2).mean()
    assert abs(share - synthetic_eyes_ranges.CHANCES["grey"]) < 0.04


def test_exposure_tells_nothing_about_the_class(eyes):
    images, labels = eyes
    level = images.mean(axis=(1, 2, 3))
    assert abs(level[labels == 1].mean() - level[labels == 0].mean()) < 5


def test_a_linear_model_already_finds_the_classes_in_unseen_eyes(eyes):
    images, labels = eyes
    grey = images.mean(axis=-1)
    grey = (grey - grey.mean(axis=(1, 2), keepdims=True)) / grey.std(axis=(1, 2), keepdims=True)
    down = np.diff(grey, axis=1)[:, 1::2].reshape(len(grey), -1, 20, 2).mean(axis=-1)
    features = np.concatenate([np.maximum(down, 0), np.maximum(-down, 0)], axis=1)
    features = features.reshape(len(grey), -1)
    centred = features - features.mean(axis=0)
    train, test = slice(0, 1500), slice(1500, None)
    gram = centred[train].T @ centred[train] + 20.0 * np.eye(features.shape[1])
    weights = np.linalg.solve(gram, centred[train].T @ (2.0 * labels[train] - 1.0))
    accuracy = ((centred[test] @ weights > 0) == (labels[test] == 1)).mean()
    assert accuracy > 0.8


def test_nearly_shut_and_squinting_are_apart():
    closed, opened = synthetic_eyes_ranges.CLOSED_RANGES, synthetic_eyes_ranges.OPEN_RANGES
    assert closed["gap"][1] + 0.2 < opened["gap"][0]


def test_the_tables_are_consistent():
    tables = synthetic_eyes_ranges
    assert tables.OPEN_RANGES.keys() == tables.CLOSED_RANGES.keys()
    names = [*tables.RANGES, *tables.OPEN_RANGES, *tables.CHANCES]
    assert len(names) == len(set(names))
    for table in (tables.RANGES, tables.OPEN_RANGES, tables.CLOSED_RANGES):
        assert all(low < high for low, high in table.values())
    assert all(0 < chance < 1 for chance in tables.CHANCES.values())


def test_every_entry_of_the_tables_is_drawn(monkeypatch):
    drawn = set()
    uniform = IndexedRandom.uniform

    def recording(self, name, *limits):
        drawn.add(name)
        return uniform(self, name, *limits)

    monkeypatch.setattr(synthetic_eyes_geometry.IndexedRandom, "uniform", recording)
    draw_eyes(0, np.arange(100), height=12, width=20)
    tables = synthetic_eyes_ranges
    unused = {*tables.RANGES, *tables.OPEN_RANGES, *tables.CHANCES} - drawn
    assert unused == {"mottle_frequency"}  # drawn once for each of its three waves


def test_draws_are_uniform_and_independent_by_name():
    random = IndexedRandom(0, np.arange(20_000))
    first, second = random.uniform("first", -1.0, 3.0), random.uniform("second", -1.0, 3.0)
    assert first.dtype == np.float32
    assert abs(first.mean() - 1.0) < 0.03
    assert abs(first.var() - 16.0 / 12.0) < 0.03
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(first.ravel()[1:], first.ravel()[:-1])[0, 1]) < 0.03
    assert abs(random.happens("third", 0.3).mean() - 0.3) < 0.02


def test_noise_is_white_with_unit_variance():
    noise = IndexedRandom(0, np.arange(4)).noise("sensor", 64, 64)
    planes = noise.reshape(4, -1)
    np.testing.assert_allclose(planes.mean(axis=1), 0.0, atol=0.03)
    np.testing.assert_allclose(np.cov(planes), np.eye(4), atol=0.03)


@pytest.mark.parametrize(
    ("indices", "height", "message"),
    [
        (np.array([0, -1]), 24, "0 or more, got -1"),
        (np.array([0.5]), 24, "integer indices, got float64"),
        (np.array([[1]]), 24, r"\[N\] integer"),
        (np.array([1]), 7, "7x40"),
    ],
)
def test_bad_requests_say_what_was_wanted(indices, height, message):
    with pytest.raises(ValueError, match=message):
        draw_eyes(0, indices, height=height, width=40)
