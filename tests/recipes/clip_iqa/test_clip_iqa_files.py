"""clip_iqa's weights as the original's file, and trained models as ONNX and StableHLO files."""

import json
import pathlib

import jax
import numpy as np
import pytest

from jaxrecipes.config import from_dict
from jaxrecipes.convert import load_torch, save_torch
from jaxrecipes.export.stablehlo import load_stablehlo
from jaxrecipes.models.clip.config import ClipConfig, ClipTextConfig, ClipVisionConfig
from jaxrecipes.recipes.clip_iqa.config import ClipSource, FreezeConfig, IqaRunConfig
from jaxrecipes.recipes.clip_iqa.network_config import HeadsConfig
from jaxrecipes.recipes.clip_iqa.original import export_torch, file_name, import_torch
from jaxrecipes.recipes.clip_iqa.recipe import make_recipe
from jaxrecipes.runs.exports import export_onnx, export_stablehlo
from jaxrecipes.runs.recipe_module import load_recipe
from jaxrecipes.runs.trained import Trained
from jaxrecipes.train import create_state
from jaxrecipes.train.recipe import DataInfo

CLIP_IQA = load_recipe("clip_iqa")

TINY = ClipConfig(
    vision=ClipVisionConfig(
        image_size=16, patch_size=8, width=64, depth=2, num_heads=1, mlp_width=64
    ),
    text=ClipTextConfig(
        width=64, depth=1, num_heads=1, mlp_width=64, vocab_size=30, context_length=6
    ),
    projection_dim=8,
)


def trained(**fields):
    config = IqaRunConfig(clip=ClipSource(size="custom", custom=TINY), **fields)
    recipe = make_recipe(config, DataInfo(steps_per_epoch=1))
    state = jax.jit(lambda key: create_state(recipe, key))(jax.random.key(0))
    return Trained(CLIP_IQA, config, recipe, state, 0, {"history": []})


@pytest.fixture(scope="module")
def residual():
    return trained(freeze=FreezeConfig(mode="partial", layers=1))


def test_weights_go_to_the_originals_file_and_come_back(residual, tmp_path):
    export_torch(residual, tmp_path)
    file = tmp_path / "baseline_residual_partial_freeze_1L_best.pt"
    keys = load_torch(file).keys()
    assert "clip.text_model.encoder.layers.0.self_attn.k_proj.bias" in keys
    import_torch(file, tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config.pop("recipe") == "clip_iqa"
    config = from_dict(IqaRunConfig, config)
    assert (config.network, config.freeze) == (residual.config.network, residual.config.freeze)


def test_a_file_of_something_else_is_refused(tmp_path):
    save_torch(tmp_path / "other.pt", {"weight": np.zeros(2, np.float32)})
    with pytest.raises(ValueError, match="no weights of the clip_iqa program"):
        import_torch(tmp_path / "other.pt", tmp_path / "run")


@pytest.mark.parametrize(
    ("heads", "freeze", "name"),
    [
        (HeadsConfig(), FreezeConfig(), "baseline_residual_best.pt"),
        (HeadsConfig(), FreezeConfig(mode="clip"), "baseline_residual_best.pt"),
        (HeadsConfig(mode="traditional"), FreezeConfig(), "baseline_best.pt"),
        (
            HeadsConfig(mode="traditional", refinement=True),
            FreezeConfig(),
            "baseline_refinement_best.pt",
        ),
    ],
)
def test_files_have_the_originals_names(heads, freeze, name):
    assert file_name(IqaRunConfig(heads=heads, freeze=freeze)) == name


def test_stablehlo_gives_the_scores_of_images_and_token_ids(residual, tmp_path):
    file = tmp_path / "model.stablehlo"
    export_stablehlo(residual, file, weights="auto")
    network, (params, batch_stats) = CLIP_IQA.deployed(residual), residual.weights("auto")
    inputs = network.examples
    want = jax.jit(network.function)({"params": params, "batch_stats": batch_stats}, inputs)
    got = load_stablehlo(file)(inputs)
    np.testing.assert_allclose(got["consistency"], want["consistency"], atol=1e-6)


@pytest.mark.parametrize(
    "heads",
    [
        HeadsConfig(),
        HeadsConfig(
            mode="traditional",
            two_branch=True,
            refinement=True,
            refinement_layers=1,
            refinement_heads=2,
            refinement_dim=8,
        ),
    ],
)
def test_onnx_gives_the_scores_of_images_and_token_ids(heads, tmp_path):
    pytest.importorskip("onnxruntime")
    file = pathlib.Path(tmp_path / "model.onnx")
    export_onnx(trained(heads=heads), file, weights="auto", opset=17)
    assert file.stat().st_size > 0
