"""The universal face network as ONNX, against the original's vectors, and as StableHLO."""

import jax
import numpy as np
import pytest

from jaxrecipes.convert import from_torch
from jaxrecipes.export.onnx import onnx_model
from jaxrecipes.export.stablehlo import load_stablehlo, save_stablehlo

HEADS = ("id_features", "pose_features", "pose_angles")


def network(golden, case):
    arrays = golden(f"universal_face/{case}")
    state_dict = {k.split("/")[1]: v for k, v in arrays.items() if k.startswith(("sd/", "crit/"))}
    model, params, batch_stats = from_torch(
        "universal_face", state_dict, golden.json(arrays["cfg"])
    )
    inputs = {"src": arrays["in/src"], "pose": arrays["in/pose"]}

    def heads(variables, x):
        return model.apply(variables, x["src"], x["pose"], mode="inference")

    shapes = {name: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for name, x in inputs.items()}
    return arrays, heads, {"params": params, "batch_stats": batch_stats}, shapes, inputs


@pytest.mark.parametrize(("case", "opset"), [("uf_a", 17), ("uf_b", 20)])
def test_onnx_gives_the_originals_heads(golden, case, opset):
    onnxruntime = pytest.importorskip("onnxruntime")
    arrays, heads, variables, shapes, inputs = network(golden, case)
    model = onnx_model(heads, variables, shapes, opset=opset)
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
    arrays, heads, variables, shapes, inputs = network(golden, "uf_b")
    predict = jax.jit(lambda x: heads(variables, x))
    save_stablehlo(predict, tmp_path / "x.shlo", example=shapes, platforms=["cpu"])
    heads = load_stablehlo(tmp_path / "x.shlo")(inputs)
    for name in HEADS:
        np.testing.assert_allclose(heads[name], arrays[f"eval64_infer/{name}"], atol=5e-6)
