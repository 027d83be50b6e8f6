import csv

import numpy as np
from PIL import Image

from jaxrecipes.recipes.hand_pose.joint_plots import error_bars, pck_curves, write_joint_errors
from jaxrecipes.recipes.hand_pose.skeletons import BONE, Skeleton, draw_skeletons

RED, GREEN = (255, 0, 0), (0, 255, 0)
ERRORS = {
    "one": np.array([[1.0, 2.0], [3.0, np.nan], [8.0, np.inf]]),
    "two": np.full((3, 2), np.nan),
}


def test_joints_are_where_they_should_be_and_bones_join_those_that_are_shown():
    image = np.zeros((20, 10, 3), np.uint8)
    points = np.array([[5.0, 5.0], [5.0, 15.0], [np.nan, 5.0], [1e9, 5.0], [1.0, 1.0]])
    shown = np.array([True, True, True, True, False])
    skeleton = Skeleton(points, RED, shown)
    drawn = draw_skeletons(image, [skeleton], edges=[(0, 1), (1, 2), (0, 3), (0, 4)], size=400)
    assert drawn.shape == (400, 400, 3)
    assert drawn[100, 100].tolist() == drawn[300, 100].tolist() == [255, 0, 0]
    np.testing.assert_allclose(drawn[200, 100], BONE, atol=5)
    assert drawn[20, 20].tolist() == [0, 0, 0]
    assert (drawn[:, 200:] == 255).all()


def test_the_last_skeleton_is_on_top():
    image, point = np.zeros((10, 10, 3), np.uint8), np.array([[5.0, 5.0]])
    drawn = draw_skeletons(
        image, [Skeleton(point, RED), Skeleton(point, GREEN)], edges=[], size=400
    )
    assert drawn[200, 200].tolist() == [0, 255, 0]


def test_the_table_counts_what_is_labelled(tmp_path):
    write_joint_errors(ERRORS, {"all": range(2), "first": [0]}, tmp_path / "e.csv")
    with (tmp_path / "e.csv").open() as file:
        everything, first = csv.DictReader(file)
    assert everything["labels"] == "5"
    assert (everything["one_mean"], everything["one_median"]) == ("", "3.00")
    assert (first["one_mean"], first["one_median"], first["one_p90"]) == ("4.00", "3.00", "8.00")
    assert first["two_mean"] == first["two_p90"] == ""


def test_plots_are_drawn_of_errors_that_are_missing_or_not_finite(tmp_path):
    error_bars(ERRORS, ["a", "b"], tmp_path / "bars.png", title="val")
    pck_curves(ERRORS, tmp_path / "pck.png", title="val")
    assert Image.open(tmp_path / "bars.png").width > Image.open(tmp_path / "pck.png").width
