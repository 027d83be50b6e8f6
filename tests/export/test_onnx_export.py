import json

import numpy as np
import pytest
from export_models import (
    COMBINATIONS,
    IMAGE_SIZE,
    compiled_fast,
    random_images,
    random_weights,
    tiny_config,
)

from jaxrecipes.export.graph import GraphBuilder
from jaxrecipes.export.ocec import export_ocec_onnx, ocec_predict_fn
from jaxrecipes.export.ocec_graph import ocec_graph
from jaxrecipes.export.onnx_file import check_onnx, save_onnx
from jaxrecipes.models.ocec import PUBLISHED

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

NORMALIZATION = {"mean": (0.47, 0.46, 0.48), "std": (0.17, 0.18, 0.19)}


def op_types(model) -> set[str]:
    return {node.op_type for node in model.graph.node}


@pytest.mark.parametrize(("arch", "head"), COMBINATIONS)
def test_onnxruntime_computes_what_jax_computes(arch, head):
    config = tiny_config(arch, head)
    weights, images = random_weights(config), random_images()
    model = ocec_graph(config, *weights, image_size=IMAGE_SIZE)
    predict = compiled_fast(ocec_predict_fn(config, *weights), images)
    assert check_onnx(model.SerializeToString(), predict, images) < 1e-6
    assert "BatchNormalization" not in op_types(model)


@pytest.mark.parametrize(
    ("fields", "image_size"),
    [
        ({"expansion": 1, "se_reduction": 0}, (9, 13)),
        ({"expansion": 2, "se_reduction": 3, "num_blocks": 1}, (11, 24)),
    ],
)
def test_inverted_blocks_of_any_kind_and_odd_sizes(fields, image_size):
    config = tiny_config("inverted_se", "avgmax_mlp", **fields)
    weights, images = random_weights(config, image_size), random_images(8, image_size)
    model = ocec_graph(config, *weights, image_size=image_size)
    predict = compiled_fast(ocec_predict_fn(config, *weights), images)
    assert check_onnx(model.SerializeToString(), predict, images) < 1e-6


def test_normalisation_and_logit_scale_are_part_of_the_file(tmp_path):
    config = tiny_config(num_blocks=1)
    params, stats = random_weights(config)
    options = NORMALIZATION | {"logit_scale": 2.0}
    path = tmp_path / "model.onnx"
    assert export_ocec_onnx(config, params, stats, path, image_size=IMAGE_SIZE, **options) < 1e-6
    session = onnxruntime.InferenceSession(path)
    (scaled,) = session.run(None, {"images": random_images()})
    plain = np.asarray(ocec_predict_fn(config, params, stats, **NORMALIZATION)(random_images()))
    odds = plain.astype(np.float64) / (1.0 - plain)
    np.testing.assert_allclose(scaled, odds**2 / (1.0 + odds**2), atol=1e-6)


def test_identity_normalisation_adds_no_node():
    config = tiny_config()
    model = ocec_graph(config, *random_weights(config), image_size=IMAGE_SIZE)
    assert op_types(model).isdisjoint({"Sub", "Div"})


def test_input_output_and_metadata_are_named(tmp_path):
    config = tiny_config(num_blocks=1)
    path = tmp_path / "model.onnx"
    export_ocec_onnx(
        config, *random_weights(config), path, image_size=IMAGE_SIZE, metadata={"step": "7"}
    )
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
    assert facts["step"] == "7"


@pytest.mark.parametrize("opset", [17, 18, 21])
def test_newer_opsets_compute_the_same(opset):
    config = tiny_config("baseline", "transformer")
    weights = random_weights(config)
    model = ocec_graph(config, *weights, image_size=IMAGE_SIZE, opset=opset)
    reference = ocec_graph(config, *weights, image_size=IMAGE_SIZE).SerializeToString()
    session = onnxruntime.InferenceSession(reference)
    (expected,) = session.run(None, {"images": random_images()})
    assert check_onnx(model.SerializeToString(), lambda images: expected, random_images()) < 1e-6


def test_the_published_p_model_is_small_and_plain():
    config = PUBLISHED["P"]
    model = ocec_graph(config, *random_weights(config, (24, 40)), image_size=(24, 40))
    assert len(model.graph.node) == 31
    assert model.ByteSize() < 116_000
    assert model.ir_version == 8


def test_an_old_opset_is_refused():
    with pytest.raises(ValueError, match=r"opset must be 17 to .*, got 13"):
        GraphBuilder(opset=13)


def test_a_size_that_the_token_grid_does_not_divide_is_refused():
    config = tiny_config("baseline", "transformer")
    with pytest.raises(ValueError, match="does not divide"):
        ocec_graph(config, {}, {}, image_size=(24, 28))


def test_a_model_that_differs_is_not_written(tmp_path):
    config = tiny_config(num_blocks=1)
    model = ocec_graph(config, *random_weights(config), image_size=IMAGE_SIZE)
    path = tmp_path / "model.onnx"
    other = ocec_predict_fn(config, *random_weights(config, seed=1))
    with pytest.raises(ValueError, match=r"differs from JAX by .* was not written"):
        save_onnx(model, path, other)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_do_not_pass(tmp_path):
    config = tiny_config(num_blocks=1)
    params, stats = random_weights(config)
    linear = params["head"]["linear"]
    linear = linear | {"bias": linear["bias"] * np.nan}
    params = params | {"head": params["head"] | {"linear": linear}}
    with pytest.raises(ValueError, match="nan"):
        export_ocec_onnx(config, params, stats, tmp_path / "m.onnx", image_size=IMAGE_SIZE)


def test_builder_shares_unnamed_constants_and_keeps_transposed_ones_right():
    graph = GraphBuilder()
    assert graph.constant(0.5) == graph.constant(0.5)
    values = np.arange(6.0).reshape(2, 3).T
    name = graph.constant(values, "weight")
    output = graph.add("x", name)
    model = graph.model(
        inputs={"x": (3, 2)}, outputs={"y": (output, (3, 2))}, metadata={"made": "here"}
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (y,) = session.run(None, {"x": np.zeros((3, 2), np.float32)})
    np.testing.assert_array_equal(y, values)
