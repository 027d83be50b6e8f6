"""OCEC as ONNX, by tracing: equal to JAX in onnxruntime, folded, named."""

import json

import numpy as np
import pytest
from export_models import (
    IMAGE_SIZE,
    compiled_fast,
    ocec_onnx,
    predict,
    random_images,
    random_weights,
    run_config,
    tiny_config,
)

from jaxrecipes.export.onnx import check_onnx, save_onnx
from jaxrecipes.recipes.ocec.network import PUBLISHED
from jaxrecipes.recipes.ocec.recipe import make_recipe
from jaxrecipes.runs.exports import export_onnx
from jaxrecipes.runs.recipe_module import load_recipe
from jaxrecipes.runs.trained import Trained
from jaxrecipes.train.recipe import DataInfo

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

NORMALIZATION = {"mean": (0.47, 0.46, 0.48), "std": (0.17, 0.18, 0.19)}


def op_types(model) -> set[str]:
    return {node.op_type for node in model.graph.node}


@pytest.mark.parametrize(
    ("arch", "head"),  # test_onnx_golden.py has all pairs
    [
        ("baseline", "avg"),
        ("inverted_se", "avgmax_mlp"),
        ("convnext", "transformer"),
        ("baseline", "mlp_mixer"),
    ],
)
def test_onnxruntime_computes_what_jax_computes(arch, head):
    run = run_config(tiny_config(arch, head))
    weights, images = random_weights(run.model), random_images()
    model = ocec_onnx(run, weights)
    fast = compiled_fast(predict(run, weights), images)
    assert check_onnx(model.SerializeToString(), fast, images) < 1e-6


@pytest.mark.parametrize(
    ("fields", "image_size"),
    [
        ({"expansion": 1, "se_reduction": 0}, (9, 13)),
        ({"expansion": 2, "se_reduction": 3, "num_blocks": 1}, (11, 24)),
    ],
)
def test_inverted_blocks_of_any_kind_and_odd_sizes(fields, image_size):
    run = run_config(tiny_config("inverted_se", "avgmax_mlp", **fields), image_size)
    weights, images = random_weights(run.model, image_size), random_images(8, image_size)
    model = ocec_onnx(run, weights)
    fast = compiled_fast(predict(run, weights), images)
    assert check_onnx(model.SerializeToString(), fast, images) < 1e-6


def test_normalisation_and_logit_scale_are_part_of_the_file():
    config = tiny_config(num_blocks=1)
    weights, images = random_weights(config), random_images()
    model = ocec_onnx(run_config(config, focal=True, **NORMALIZATION), weights)
    (scaled,) = onnxruntime.InferenceSession(model.SerializeToString()).run(
        None, {"images": images}
    )
    plain = np.asarray(predict(run_config(config, **NORMALIZATION), weights)(images))
    odds = plain.astype(np.float64) / (1.0 - plain)
    np.testing.assert_allclose(scaled, odds**2 / (1.0 + odds**2), atol=1e-6)


def test_identity_normalisation_adds_no_node():
    run = run_config(tiny_config())
    assert op_types(ocec_onnx(run, random_weights(run.model))).isdisjoint({"Sub", "Div"})


def test_input_output_and_metadata_are_named(tmp_path):
    run = run_config(tiny_config(num_blocks=1))
    path = tmp_path / "model.onnx"
    params, batch_stats = random_weights(run.model)

    class Drawn(Trained):
        def weights(self, which="auto"):
            return params, batch_stats

    trained = Drawn(
        load_recipe("ocec"), run, make_recipe(run, DataInfo(steps_per_epoch=1)), None, 7, {}
    )
    said = export_onnx(trained, path, weights="auto", opset=17)
    assert said.startswith("prob_open: at most ")
    session = onnxruntime.InferenceSession(path)
    (source,), (output,) = session.get_inputs(), session.get_outputs()
    assert (source.name, source.shape, source.type) == (
        "images",
        ["batch", 3, *IMAGE_SIZE],
        "tensor(float)",
    )
    assert (output.name, output.shape) == ("prob_open", ["batch"])
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["label_map"]) == {"0": "closed", "1": "open"}
    assert json.loads(facts["image_size"]) == list(IMAGE_SIZE)
    assert json.loads(facts["model_config"])["base_channels"] == 8
    assert (facts["recipe"], facts["step"]) == ("ocec", "7")


@pytest.mark.parametrize("opset", [18, 21])
def test_newer_opsets_compute_the_same(opset):
    run = run_config(tiny_config("baseline", "transformer"))
    weights = random_weights(run.model)
    reference = ocec_onnx(run, weights).SerializeToString()
    (expected,) = onnxruntime.InferenceSession(reference).run(None, {"images": random_images()})
    model = ocec_onnx(run, weights, opset=opset)
    assert check_onnx(model.SerializeToString(), lambda images: expected, random_images()) < 1e-6


def test_the_published_p_model_is_small_and_plain():
    run = run_config(PUBLISHED["P"], (24, 40))
    model = ocec_onnx(run, random_weights(run.model, (24, 40)))
    assert len(model.graph.node) == 31
    assert op_types(model).isdisjoint({"BatchNormalization", "Transpose"})
    assert model.ByteSize() < 116_000
    assert model.ir_version == 8


def test_stored_weights_keep_their_paths():
    run = run_config(tiny_config("baseline", "transformer"))
    model = ocec_onnx(run, random_weights(run.model))
    names = {array.name for array in model.graph.initializer}
    assert {"params.stem.conv.kernel", "params.stem.conv.bias"} <= names
    assert "params.head.layers_0.norm1.scale" in names


def test_a_size_that_the_token_grid_does_not_divide_is_refused():
    run = run_config(tiny_config("baseline", "transformer"), (24, 28))
    with pytest.raises(ValueError, match="does not divide"):
        ocec_onnx(run, ({}, {}))


def test_a_model_that_differs_is_not_written(tmp_path):
    run = run_config(tiny_config(num_blocks=1))
    model = ocec_onnx(run, random_weights(run.model))
    other = predict(run, random_weights(run.model, seed=1))
    with pytest.raises(ValueError, match=r"differs from JAX by .* was not written"):
        save_onnx(model, tmp_path / "model.onnx", other)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_do_not_pass(tmp_path):
    run = run_config(tiny_config(num_blocks=1))
    params, stats = random_weights(run.model)
    linear = params["head"]["linear"]
    linear = linear | {"bias": linear["bias"] * np.nan}
    weights = (params | {"head": params["head"] | {"linear": linear}}, stats)
    with pytest.raises(ValueError, match="nan"):
        save_onnx(ocec_onnx(run, weights), tmp_path / "m.onnx", predict(run, weights))
