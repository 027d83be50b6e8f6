import csv
import dataclasses
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxrecipes.compile_quickly import run_once
from jaxrecipes.models.dinov2.config import Dinov2Config
from jaxrecipes.models.hand.camera import project
from jaxrecipes.models.hand.joints import JOINT_NAMES
from jaxrecipes.recipes.hand_pose import report
from jaxrecipes.recipes.hand_pose.config import (
    AugmentConfig,
    BackboneSource,
    HandRunConfig,
    LossConfig,
)
from jaxrecipes.recipes.hand_pose.hands.draw import synthetic_hands
from jaxrecipes.recipes.hand_pose.joint_errors import hand_errors, more_hand_errors
from jaxrecipes.recipes.hand_pose.network_config import HandDecoderConfig, HandPoseConfig
from jaxrecipes.recipes.hand_pose.recipe import make_recipe
from jaxrecipes.recipes.hand_pose.shards import HandClips
from jaxrecipes.train.evaluate import Evaluation
from jaxrecipes.train.recipe import DataInfo, Recipe

COUNT = 10
CONFIG = HandRunConfig(
    backbone=BackboneSource(size="custom"),
    model=HandPoseConfig(
        backbone=Dinov2Config(width=8, depth=1, num_heads=2, image_size=28),
        img_size=28,
        handec=HandDecoderConfig(num_layer=1, num_head=2, dim_head=4, dim_mlp=8),
    ),
    loss=LossConfig(heatmap_sigma=0.2),
    # The hardest view to undo.
    augment=AugmentConfig(perspective_normalization=True),
)
LABELS = ("joint_cam", "joint_rel", "joint_img", "joint_valid", "mano_pose", "mano_valid")


@pytest.fixture(scope="module")
def clips():
    """Hands of which some are left ones, and one joint is not known."""
    arrays: dict[str, Any] = dict(synthetic_hands(COUNT, seed=0, image_size=32))
    arrays["joint_valid"] = np.array(arrays["joint_valid"])
    arrays["joint_valid"][0, 0, 4] = 0.0
    arrays["joint_cam"] = np.array(arrays["joint_cam"])
    arrays["joint_cam"][0, 0, 4] = np.nan
    keys = np.array([f"hand_{i}_0000" for i in range(COUNT)])
    return HandClips(arrays, keys, None, np.zeros(COUNT, np.int32))


@pytest.fixture(scope="module")
def recipe():
    return make_recipe(CONFIG, DataInfo(steps_per_epoch=1))


@pytest.fixture(scope="module")
def labels(clips, recipe):
    """What a network in evaluation is to find."""
    batch = {name: np.asarray(array) for name, array in clips.arrays.items()}
    names = (*LABELS, "focal", "princpt")
    seen = run_once(lambda batch: {n: recipe.preprocess(batch)[n] for n in names}, batch)
    return {name: np.asarray(array) for name, array in seen.items()}


@pytest.fixture
def outputs(clips, labels):
    """Of a network that is wrong by some millimetres, differently for each clip."""
    noise = np.random.default_rng(0).normal(size=labels["joint_rel"].shape)
    noise *= np.arange(1, COUNT + 1)[:, None, None, None]
    joint_rel = np.nan_to_num(labels["joint_rel"]) + noise
    joint_cam = joint_rel + labels["joint_cam"][:, :, :1]
    camera = (labels[name][:, :, None] for name in ("focal", "princpt"))
    return {
        "joint_rel": joint_rel.astype(np.float32),
        "joint_cam": joint_cam.astype(np.float32),
        "joint_img": np.asarray(project(joint_cam, *camera)),
        "pose": labels["mano_pose"],
        "betas": np.asarray(clips.arrays["mano_shape"]),
        "trans": np.ones((COUNT, 1, 3), np.float32),
    }


def test_a_report_has_hands_curves_and_a_table_that_agrees_with_the_metrics(
    clips, labels, outputs, tmp_path
):
    report.write_report(CONFIG, "val", Evaluation({}, outputs), clips, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "hands_val.png",
        "joint_errors_val.csv",
        "joint_errors_val.png",
        "pck_val.png",
    ]
    with (tmp_path / "joint_errors_val.csv").open() as file:
        rows = {row["joints"]: row for row in csv.DictReader(file)}
    assert list(rows)[:3] == ["all", "Thumb", "Index"]
    assert len(rows) == 1 + 5 + len(JOINT_NAMES)
    assert rows["Thumb_4"]["labels"] == str(COUNT - 1)
    filler = {f"verts_{name}": np.zeros((COUNT, 1, 1, 3)) for name in ("rel", "cam")}
    arguments = (outputs | filler, labels | filler, labels)
    metrics = run_once(lambda *a: hand_errors(*a) | more_hand_errors(*a), *arguments)
    shown = {"camera": "micro_mpjpe", "root_relative": "micro_mpjpe_rel", "aligned": "pa_mpjpe"}
    for name, metric in shown.items():
        wanted = float(metrics[metric].compute())
        assert float(rows["all"][f"{name}_mean"]) == pytest.approx(wanted, abs=0.006)


def test_worst_and_best_hands_are_chosen_once_each():
    errors = np.array([[3.0, 3.0], [1.0, 1.0], [np.nan, 4.0], [2.0, 2.0], [np.nan, np.nan]])
    assert report.worst_best_others(errors, count=1)[:2].tolist() == [2, 1]
    assert sorted(report.worst_best_others(errors, count=1).tolist())[:2] != [4, 4]
    assert report.worst_best_others(errors[4:], count=3).size == 0


def test_a_network_that_broke_has_a_report_all_the_same(clips, outputs, tmp_path):
    broken = {name: np.full_like(array, np.nan) for name, array in outputs.items()}
    report.write_report(CONFIG, "val", Evaluation({}, broken), clips, tmp_path)
    text = (tmp_path / "joint_errors_val.csv").read_text().splitlines()
    assert text[1] == f"all,{21 * COUNT - 1},,,,,,,,,"
    assert Image.open(tmp_path / "hands_val.png").width > 1000


def test_predictions_are_of_the_hand_in_the_original_image(clips, labels, outputs):
    perfect = outputs | {"joint_cam": labels["joint_cam"]}
    columns = report.prediction_columns(CONFIG, clips, perfect)
    assert columns["key"] == clips.keys.tolist()
    left = np.asarray(clips.arrays["left"]) > 0.5
    assert 0 < left.sum() < COUNT
    assert columns["hand"] == ["left" if flag else "right" for flag in left]
    for i, joint in enumerate(JOINT_NAMES):
        for axes, name in (("xyz", "joint_cam"), ("uv", "joint_img")):
            found = np.array([columns[f"{joint}_{axis}"] for axis in axes], float).T
            wanted = np.asarray(clips.arrays[name])[:, 0, i]
            rows = np.isfinite(clips.arrays["joint_cam"][:, 0, i]).all(axis=-1)
            np.testing.assert_allclose(found[rows], wanted[rows], atol=0.02)
    pose = np.array([columns[f"pose_{i}"] for i in range(48)], float).T
    np.testing.assert_allclose(pose, np.asarray(clips.arrays["mano_pose"])[:, 0], atol=1e-4)
    root = np.array([columns[f"root_{axis}"] for axis in "xyz"], float).T
    np.testing.assert_allclose(np.linalg.norm(root, axis=1), np.sqrt(3), atol=1e-4)


def test_samples_are_images_beside_what_training_makes_of_them(clips, recipe, tmp_path):
    def augment(key, batch, hparams):
        return recipe.preprocess(batch)

    simple: Recipe = dataclasses.replace(recipe, augment=augment)
    report.write_samples(simple, clips, {}, tmp_path / "samples.png")
    image = np.asarray(Image.open(tmp_path / "samples.png"))
    assert image.shape[1] > 2 * 3 * report.CELL
    green = (image == report.TRUE).all(axis=-1)
    assert green.any()
