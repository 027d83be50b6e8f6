import csv

import numpy as np
import pytest
from PIL import Image

from jaxrecipes.correlation import agreement
from jaxrecipes.recipes.clip_iqa.plots import (
    score_scatter,
    score_sheet,
    thumbnails,
    write_agreement,
)

RNG = np.random.default_rng(0)
OPINION = RNG.uniform(0, 5, 40)
PRED = np.clip(OPINION + RNG.normal(0, 0.8, 40), 0, 5)
IMAGES = RNG.integers(0, 256, (40, 24, 16, 3), dtype=np.uint8)


def is_drawn(path):
    """More than a few colours, so more than an empty frame."""
    with Image.open(path) as picture:
        return len(picture.convert("RGB").getcolors(1 << 22)) > 20


@pytest.mark.parametrize(
    "pred",
    [PRED, np.full(40, 2.5), np.full(40, np.nan), np.where(PRED > 3, np.nan, PRED)],
    ids=["usual", "constant", "not finite", "partly finite"],
)
def test_scatter_is_drawn_whatever_the_predictions(tmp_path, pred):
    scores = {"quality": (pred, OPINION), "consistency": (OPINION, pred)}
    score_scatter(scores, tmp_path / "plots" / "s.png", fit="logistic5")
    assert is_drawn(tmp_path / "plots" / "s.png")


def test_table_has_the_figures_of_all_and_of_each_group(tmp_path):
    groups = np.where(np.arange(40) < 25, "b", "a")
    write_agreement(
        {"quality": (PRED, OPINION)}, tmp_path / "t.csv", groups=groups, group_name="generator"
    )
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["generator"], row["images"]) for row in rows] == [
        ("all", "40"),
        ("a", "15"),
        ("b", "25"),
    ]
    for row, chosen in zip(rows, (slice(None), slice(25, None), slice(25)), strict=True):
        assert float(row["opinion_quality"]) == pytest.approx(OPINION[chosen].mean(), abs=1e-4)
        for name, value in agreement(PRED[chosen], OPINION[chosen]).items():
            assert float(row[f"{name}_quality"]) == pytest.approx(value, abs=1e-4)


def test_table_is_empty_where_a_correlation_is_not_defined(tmp_path):
    write_agreement({"quality": (np.ones(3), OPINION[:3])}, tmp_path / "t.csv")
    head, values = (tmp_path / "t.csv").read_text().splitlines()
    row = dict(zip(head.split(","), values.split(","), strict=True))
    assert row["srocc_quality"] == row["plcc_quality"] == ""
    assert float(row["rmse_quality"]) > 0


@pytest.mark.parametrize("pred", [PRED, np.full(40, np.nan)], ids=["usual", "not finite"])
def test_sheet_of_images_is_drawn(tmp_path, pred):
    score_sheet(IMAGES, pred, OPINION, ["a cat"] * 40, tmp_path / "i.png", title="val, quality")
    assert is_drawn(tmp_path / "i.png")


def test_thumbnails_shrink_large_images_and_keep_small_ones():
    assert thumbnails(IMAGES, [3, 1], size=12).shape == (2, 12, 8, 3)
    np.testing.assert_array_equal(thumbnails(IMAGES, [3, 1]), IMAGES[[3, 1]])
    assert thumbnails(IMAGES, np.zeros(0, int)).shape == (0, 24, 16, 3)
