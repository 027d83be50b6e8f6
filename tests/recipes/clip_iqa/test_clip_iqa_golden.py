"""The clip_iqa network against the original's: outputs, losses, and weights both ways."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxrecipes.convert import from_torch, load_torch, save_torch, to_torch
from jaxrecipes.convert.rules import ConversionError
from jaxrecipes.convert.safetensors import load_safetensors
from jaxrecipes.losses import mean_squared_error
from jaxrecipes.models.clip.network import ClipText
from jaxrecipes.recipes.clip_iqa import original as clip_iqa
from jaxrecipes.recipes.clip_iqa.network import ClipIqa


@pytest.fixture(scope="module")
def clip_folder(golden):
    return golden.path / "clip_iqa/hf_tiny"


@pytest.fixture(scope="module")
def original(golden, clip_folder):
    """`name` to the arrays of that file with the state dict, CLIP's weights among it."""
    clip = load_safetensors(clip_folder / "model.safetensors")[0]

    def load(name):
        arrays = golden(f"clip_iqa/{name}")
        heads = {key[3:]: array for key, array in arrays.items() if key.startswith("sd/")}
        return arrays, {f"clip.{key}": array for key, array in clip.items()} | heads

    return load


@pytest.fixture(scope="module")
def arguments(clip_folder):
    clip_config = json.loads((clip_folder / "config.json").read_text())
    return {"clip_config": clip_config, "refinement_heads": 4}


def inputs(arrays):
    return {
        "image": arrays["pixel_values"].transpose(0, 2, 3, 1),
        "tokens": arrays["input_ids"],
        "explanation_tokens": arrays["exp_input_ids"],
    }


@functools.partial(jax.jit, static_argnums=0)
def run(model, params, batch, **rates):
    return model.apply({"params": params}, batch, train=False, **rates)


def assert_scores(outputs, arrays, prefix, atol=1e-6):
    names = {"quality": "q", "consistency": "c", "consistency_base": "c_coarse"}
    for ours, theirs in names.items():
        want = arrays[f"{prefix}/{theirs}"][:, 0]
        np.testing.assert_allclose(outputs[ours], want, atol=atol, err_msg=ours)


@pytest.mark.parametrize(
    ("name", "prefix"), [("iqa_residual", "out"), ("iqa_traditional", "refine")]
)
def test_scores_rationale_and_losses_equal_the_originals(original, arguments, name, prefix):
    arrays, state_dict = original(name)
    model, params, _ = from_torch("clip_iqa", state_dict, arguments)
    outputs = run(model, params, inputs(arrays))
    assert_scores(outputs, arrays, prefix)
    for ours, theirs in (("rationale", "rationale_pred"), ("rationale_target", "rationale_target")):
        np.testing.assert_allclose(outputs[ours], arrays[f"{prefix}/{theirs}"], atol=1e-6)
    explanation = mean_squared_error(outputs["rationale"], outputs["rationale_target"]).mean()
    np.testing.assert_allclose(explanation, arrays[f"{prefix}/loss_exp"], atol=1e-6)
    for ours, theirs in (("quality", "q"), ("consistency", "c")):
        loss = jnp.mean((outputs[ours] - arrays[f"{theirs}_target"][:, 0]) ** 2)
        np.testing.assert_allclose(loss, arrays[f"{prefix}/loss_{theirs}"], atol=1e-6)


def test_scores_are_clamped_as_the_originals(original, arguments):
    arrays, state_dict = original("iqa_residual")
    for name in ("c_base_scale", "c_base_bias"):
        state_dict[name] = arrays[f"clamped/{name}"]
    state_dict["q_base_head.bias"] = arrays["clamped/q_base_bias"].reshape(1)
    model, params, _ = from_torch("clip_iqa", state_dict, arguments)
    scale = float(arrays["clamped/residual_scale"])
    outputs = run(model, params, inputs(arrays), residual_scale_q=scale, residual_scale_c=scale)
    assert_scores(outputs, arrays, "clamped", atol=1e-5)  # the base is steep: 31 times the cosine


@pytest.mark.parametrize(
    ("variant", "changes"),
    [
        ("mlp_only", {"refinement": False}),
        ("two_branch", {"refinement": False, "two_branch": True}),
        ("two_branch_refine", {"two_branch": True}),
    ],
)
def test_variants_of_the_traditional_heads_equal_the_originals(
    original, arguments, variant, changes
):
    arrays, state_dict = original("iqa_traditional")
    model, params, _ = from_torch("clip_iqa", state_dict, arguments)
    heads = dataclasses.replace(model.config.heads, **changes)
    model = ClipIqa(dataclasses.replace(model.config, heads=heads))
    assert_scores(run(model, params, inputs(arrays)), arrays, variant)


@pytest.mark.parametrize("name", ["iqa_residual", "iqa_traditional"])
def test_weights_come_back_to_the_bit(original, arguments, name, tmp_path):
    state_dict = original(name)[1]
    save_torch(tmp_path / "weights.pt", state_dict)
    _, params, _ = from_torch("clip_iqa", load_torch(tmp_path / "weights.pt"), arguments)
    back = to_torch("clip_iqa", params, {}, arguments)
    assert back.keys() == state_dict.keys()
    for key, array in state_dict.items():
        np.testing.assert_array_equal(back[key], array, err_msg=key)


def test_sizes_are_told_by_shapes_where_no_config_is_given(original):
    model, _, _ = from_torch("clip_iqa", original("iqa_residual")[1], {})
    assert (model.config.clip.vision.depth, model.config.clip.text.depth) == (3, 2)
    assert model.config.clip.vision.image_size == 32
    assert model.config.heads.hidden_dim_q == 128


def test_odd_tensors_and_arguments_are_named(original, arguments):
    state_dict = original("iqa_residual")[1]
    with pytest.raises(ConversionError, match=r"q_base_head\.bias"):
        from_torch("clip_iqa", {k: a for k, a in state_dict.items() if "base_head" not in k}, {})
    with pytest.raises(ValueError, match="refinement_heads"):
        from_torch("clip_iqa", state_dict, {"refinement_head": 4})
    params = from_torch("clip_iqa", state_dict, arguments)[1]
    with pytest.raises(ValueError, match="clip_config"):
        to_torch("clip_iqa", params, {}, {})


def test_layers_of_a_refinement_start_as_copies(original, arguments):
    config = from_torch("clip_iqa", original("iqa_traditional")[1], arguments)[0].config
    params = jax.jit(ClipIqa(config).init_params)(jax.random.key(0))
    first, second = (params["refinement_module"][f"layers_{i}"] for i in range(2))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), first, second))
    assert clip_iqa.to_torch(params, {}, config).keys() == original("iqa_traditional")[1].keys()


def test_what_a_frozen_tower_gives_can_stand_in_for_its_input(original, arguments):
    arrays, state_dict = original("iqa_residual")
    model, params, _ = from_torch("clip_iqa", state_dict, arguments)
    full = run(model, params, inputs(arrays))
    bare = params["clip"]["text"]["final_norm"]
    bare = {"scale": np.ones_like(bare["scale"]), "bias": np.zeros_like(bare["bias"])}
    clip = model.config.clip
    tower = {"params": params["clip"]["text"] | {"final_norm": bare}}
    pooled = ClipText(clip.text, clip.projection_dim).apply(tower, arrays["input_ids"]).pooled
    cached = {
        "image_embedding": arrays["out/img_g"],
        "text_pooled": pooled,
    }
    for batch in (cached, cached | {"text_embedding": arrays["out/txt_g"]}):
        outputs = run(model, params, batch)
        for name in ("quality", "consistency"):
            np.testing.assert_allclose(outputs[name], full[name], atol=1e-6)
