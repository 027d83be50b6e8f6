"""Other shards than the run's own, unlabelled hands, and fields that would be passed over."""

import dataclasses
import types

import jax
import numpy as np
import pytest

from jaxrecipes.recipes.hand_pose.config import (
    SMALL,
    BackboneSource,
    HandDataConfig,
    HandRunConfig,
    HandSource,
    LossConfig,
)
from jaxrecipes.recipes.hand_pose.hands.draw import as_sequences, synthetic_hands
from jaxrecipes.recipes.hand_pose.losses import hand_scale
from jaxrecipes.recipes.hand_pose.shards import write_hand_shards
from jaxrecipes.runs.inference import with_data_path
from jaxrecipes.runs.recipe_module import load_recipe
from jaxrecipes.runs.trained import Trained
from jaxrecipes.train.recipe import DataInfo
from jaxrecipes.train.state import starting_weights

HAND_POSE = load_recipe("hand_pose")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Folders with val (2 hands) and train (3), with 4 that are not parted, and two with test."""
    folder = tmp_path_factory.mktemp("shards")
    for name, count in (
        *(("parted/val", 2), ("parted/train", 3), ("others", 4)),
        *(("tested/val", 2), ("tested/train", 3), ("tested/test", 1), ("only/test", 1)),
    ):
        hands = synthetic_hands(count, seed=0, image_size=32)
        write_hand_shards(as_sequences(hands), folder / name)
    return folder


def evaluated_on(shards, path, **data):
    data = HandDataConfig(path=str(shards / "parted"), cache_dir=str(shards / "cache"), **data)
    config = HandRunConfig(data=data, backbone=BackboneSource(size="custom"), model=SMALL)
    trained = Trained(types.SimpleNamespace(), config, None, None, 0, {})
    config = with_data_path(trained, path and str(shards / path)).config
    return HAND_POSE.load_data(config, train=False)


@pytest.mark.parametrize(("path", "count"), [(None, 4), ("parted", 2), ("others", 4)])
def test_other_data_is_evaluated_in_place_of_the_runs_validation(shards, path, count):
    splits = evaluated_on(shards, path, val_path=str(shards / "others"))
    assert {name: len(split) for name, split in splits.items()} == {"val": count}


@pytest.mark.parametrize(
    ("path", "counts"), [("tested", {"val": 2, "test": 1}), ("only", {"test": 1})]
)
def test_the_folder_test_that_make_dataset_writes_is_the_test_split(shards, path, counts):
    splits = evaluated_on(shards, path)
    assert {name: len(split) for name, split in splits.items()} == counts


def test_a_run_wants_shards_that_are_parted(shards):
    config = HandRunConfig(data=HandDataConfig(path=str(shards / "others")))
    with pytest.raises(FileNotFoundError, match=r"no folders train and val; give data\.val_path"):
        HAND_POSE.load_data(config)


def test_a_hand_of_unknown_scale_is_placed_by_its_predicted_one():
    config = HandRunConfig(backbone=BackboneSource(size="custom"), model=SMALL)
    recipe = HAND_POSE.make_recipe(config, DataInfo(steps_per_epoch=1))
    batch = {
        "joint_cam": np.full((2, 1, 21, 3), np.nan, np.float32),
        "joint_valid": np.zeros((2, 1, 21), np.float32),
        "focal": np.full((2, 1, 2), 300.0, np.float32),
        "princpt": np.full((2, 1, 2), 64.0, np.float32),
    }
    batch["joint_cam"][1] = np.arange(21)[:, None] * [0.0, 30.0, 0.0]  # three bones of 30 mm
    batch["joint_valid"][1] = 1.0
    outputs = {
        "pose": np.zeros((2, 1, 48), np.float32),
        "betas": np.zeros((2, 1, 10), np.float32),
        "trans": np.tile(np.float32([0.5, 0.0, 10.0]), (2, 1, 1)),
    }
    found = jax.device_get(jax.jit(recipe.predictions)(outputs, batch))
    own, _ = hand_scale(found["joint_rel"], np.ones((2, 1, 21)))
    for row, scale in ((0, own[0, 0]), (1, 90.0)):
        wrist = found["joint_cam"][row, 0, 0]
        np.testing.assert_allclose(wrist, outputs["trans"][row, 0] * scale, rtol=1e-5)
    assert 80 < own[0, 0] < 95
    np.testing.assert_allclose(found["joint_img"][0, 0, 0], [79.0, 64.0], rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HandDataConfig(val_path="val"), r"data\.val_path is val, but without data\.path"),
        (lambda: HandDataConfig(depth_bins=0), "depth_bins is 0; expected depth_bins >= 1"),
        (lambda: HandSource(joint_regressor="a.npy"), r"give the hand .* as hand\.file"),
    ],
)
def test_fields_that_would_be_passed_over_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_only_a_new_run_reads_the_files_of_the_decoders_constants(tmp_path):
    file, mean = tmp_path / "stats.npz", np.arange(61, dtype=np.float32)
    handec = dataclasses.replace(SMALL.handec, denorm_output=str(file))
    config = HandRunConfig(
        backbone=BackboneSource(size="custom"),
        model=dataclasses.replace(SMALL, handec=handec),
        loss=LossConfig(heatmap_sigma=0.2),
    )
    HAND_POSE.check_config(config)
    recipe = HAND_POSE.make_recipe(config, DataInfo(steps_per_epoch=1))
    params, _ = jax.eval_shape(recipe.init, jax.random.key(0))
    assert params["handec"]["output_mean"].shape == mean.shape
    with pytest.raises(FileNotFoundError, match="stats"):
        starting_weights(recipe)
    np.savez(file, mean=mean, cov=np.eye(61, dtype=np.float32))
    given, _ = starting_weights(recipe)
    np.testing.assert_array_equal(given["handec"]["output_mean"], mean)
