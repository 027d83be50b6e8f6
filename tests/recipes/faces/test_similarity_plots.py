import numpy as np
import pytest
from PIL import Image

from jaxrecipes.metrics import roc_auc, roc_curve
from jaxrecipes.recipes.faces.plots import (
    _binned,
    pairs_overview,
    similarity_by_angle,
    similarity_histogram,
    verification_roc,
)

RNG = np.random.default_rng(0)
BEFORE, AFTER = RNG.uniform(-0.2, 0.8, 300), RNG.uniform(0.4, 1.0, 300)


def is_drawn(path):
    """More than a few colours, so more than an empty frame."""
    with Image.open(path) as picture:
        return len(picture.convert("RGB").getcolors(1 << 20)) > 20


@pytest.mark.parametrize(
    ("before", "after"),
    [(BEFORE, AFTER), (np.ones(5), np.ones(5)), (BEFORE, np.full(300, np.nan)), ([], [])],
    ids=["usual", "all the same", "outputs not finite", "nothing"],
)
def test_histogram_is_drawn_whatever_the_similarities(tmp_path, before, after):
    similarity_histogram(before, after, tmp_path / "plots" / "h.png", title="val")
    assert is_drawn(tmp_path / "plots" / "h.png")


def test_bins_hold_mean_and_quartiles_of_their_values():
    centre, low, mean, high = _binned(np.array([0, 1, 2, 3, 12.0]), np.array([0, 1, 2, 3, 9.0]), 3)
    np.testing.assert_allclose(centre, [2, 10])  # nothing lies between 4 and 8
    np.testing.assert_allclose(low, [0.75, 9])
    np.testing.assert_allclose(mean, [1.5, 9])
    np.testing.assert_allclose(high, [2.25, 9])


@pytest.mark.parametrize("yaw", [np.linspace(-60, 60, 300), np.zeros(300)])
def test_similarity_by_angle_is_drawn_or_replaced_by_a_note(tmp_path, yaw):
    angles = {"tilt": np.zeros(300), "yaw": yaw}
    similarity_by_angle(angles, BEFORE, AFTER, tmp_path / "a.png")
    assert is_drawn(tmp_path / "a.png")


@pytest.mark.parametrize("labels", [np.arange(300) % 2, np.ones(300)], ids=["both", "one kind"])
def test_verification_curve_is_drawn_or_replaced_by_a_note(tmp_path, labels):
    curves = [
        (*roc_curve(labels, scores)[:2], roc_auc(labels, scores)) for scores in (BEFORE, AFTER)
    ]
    verification_roc(*curves, tmp_path / "v.png")
    assert is_drawn(tmp_path / "v.png")


@pytest.mark.parametrize("yaw", [np.linspace(-60, 60, 300), np.zeros(300)])
def test_overview_of_pairs_is_drawn(tmp_path, yaw):
    angles = {"tilt": np.zeros(300), "yaw": yaw}
    pairs_overview(angles, BEFORE, [150, 100, 50], tmp_path / "p.png")
    assert is_drawn(tmp_path / "p.png")
