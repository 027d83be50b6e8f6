"""Configs of hand_pose: presets, and what is refused before any data is read."""

import dataclasses
import pathlib
import sys

import pytest

from jaxrecipes.commands import tune
from jaxrecipes.config import from_dict, load_config, to_dict
from jaxrecipes.runs.recipe_module import load_recipe

FILE = str(pathlib.Path(__file__).parents[3] / "configs/hand_pose.py")
HAND_POSE = load_recipe("hand_pose")


@pytest.mark.parametrize("preset", ["default", "stage1", "stage1_seed", "before", "stage2"])
def test_a_preset_is_read_back_from_what_a_run_stores(preset):
    config = load_config(f"{FILE}:{preset}")
    assert from_dict(HAND_POSE.Config, to_dict(config)) == config


def test_the_source_documents_settings_are_those_of_its_presets():
    seed, fixed = (load_config(f"{FILE}:{name}") for name in ("stage1_seed", "stage1"))
    assert (seed.dropout.scope, seed.loss.fk_grad, seed.loss.norm_eps) == ("listed", False, 0.0)
    assert (seed.augment.crop, seed.augment.scale_z_min, seed.precision) == (
        *("affine", 1.0),
        "float32",
    )
    for config in (seed, fixed):
        assert (config.steps, config.data.batch_size, config.seed, config.data.val_seed) == (
            *(100_000, 32),
            *(3229084, 42),
        )
        assert (config.optim.learning_rate, config.backbone.learning_rate) == (1e-4, 1e-5)
        assert (config.dropout.warmup_steps, config.dropout.rate) == (10_000, 0.1)
        assert config.network.handec.heatmap_resolution == (512, 512, 1024)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--backbone.size", "vit_s_14"], "--backbone.from_scratch"),
        (["--model.infusion_layer", "1", "2", "--backbone.learning_rate", "None"], "as they are"),
        (["--loss.heatmap_sigma", "0.001"], "more bins"),
        (["--select_metric", "micro_mpjp"], "micro_mpjpe"),
        (["--select_metric", "pck_auc"], "select_mode max"),
    ],
)
def test_what_cannot_train_is_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        HAND_POSE.check_config(load_config(FILE, flags))


def test_a_backbone_that_is_not_there_says_where_such_weights_come_from(tmp_path):
    flags = ["--backbone.size", "vit_s_14", "--backbone.weights", str(tmp_path / "dinov2")]
    with pytest.raises(FileNotFoundError, match="facebook/dinov2"):
        HAND_POSE.check_config(load_config(FILE, flags))


@pytest.mark.parametrize(
    ("search", "problem"),
    [
        ("brightness=-1:0.5", "at -1.0, augment.strengths.brightness is -1.0; expected"),
        ("hue=0:0.9", "at 0.9, augment.strengths.hue is 0.9; expected 0 <= hue <= 0.5"),
        ("blur_sigma_min=0.1:9", "blur_sigma_min is 9, above blur_sigma_max, which is 2"),
    ],
)
def test_a_range_of_a_pixel_strength_is_refused_before_the_first_trial(
    search, problem, tmp_path, monkeypatch
):
    flags = [
        "--config",
        "hand_pose",
        "--augment.pixels",
        "aggressive",
        "--search",
        f"augment.strengths.{search}",
    ]
    monkeypatch.setattr(sys, "argv", ["tune", *flags, "--workdir", str(tmp_path / "search")])
    with pytest.raises(ValueError, match=problem):
        tune.main()
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize("place", ["backbone", "model"])
def test_a_stored_remat_of_the_backbone_becomes_that_of_the_run(place):
    default = HAND_POSE.Config()
    stored = to_dict(default)
    del stored["remat"]
    stored["backbone"]["remat"] = place == "backbone"
    stored["model"]["backbone"]["remat"] = place == "model"
    assert from_dict(HAND_POSE.Config, stored) == dataclasses.replace(default, remat=True)
