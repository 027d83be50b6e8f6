"""The universal face network as ONNX, against the original's vectors, and as StableHLO."""

import numpy as np
import pytest

from jaxrecipes.convert import from_torch
from jaxrecipes.export.stablehlo import load_stablehlo, save_stablehlo
from jaxrecipes.export.universal_face import input_shapes, predict_fn, universal_face_graph

HEADS = ("id_features", "pose_features", "pose_angles")


def network(golden, case):
    arrays = golden(f"universal_face/{case}")
    state_dict = {k.split("/")[1]: v for k, v in arrays.items() if k.startswith(("sd/", "crit/"))}
    model, params, batch_stats = from_torch(
        "universal_face", state_dict, golden.json(arrays["cfg"])
    )
    inputs = {"src": arrays["in/src"], "pose": arrays["in/pose"]}
    return arrays, model.config, params, batch_stats, inputs


@pytest.mark.parametrize(("case", "opset"), [("uf_a", 17), ("uf_b", 20)])
def test_onnx_gives_the_originals_heads(golden, case, opset):
    onnxruntime = pytest.importorskip("onnxruntime")
    arrays, config, params, _, inputs = network(golden, case)
    model = universal_face_graph(config, params, opset=opset)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found = session.run(list(HEADS), inputs)
    for name, head in zip(HEADS, found, strict=True):
        np.testing.assert_allclose(head, arrays[f"eval64_infer/{name}"], atol=5e-6, err_msg=name)
    (projected,) = session.run(["projected"], {name: x[:1] for name, x in inputs.items()})
    wanted = arrays["eval64_infer/id_features"][:1] @ arrays["crit/id_to_feat_proj.weight"].T
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(projected, wanted, atol=5e-6)


def test_stablehlo_gives_the_originals_heads(golden, tmp_path):
    arrays, config, params, batch_stats, inputs = network(golden, "uf_b")
    predict = predict_fn(config, params, batch_stats)
    save_stablehlo(predict, tmp_path / "x.shlo", example=input_shapes(config), platforms=["cpu"])
    heads = load_stablehlo(tmp_path / "x.shlo")(inputs)
    for name in HEADS:
        np.testing.assert_allclose(heads[name], arrays[f"eval64_infer/{name}"], atol=5e-6)
