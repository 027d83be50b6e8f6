"""face3d as ONNX: every network computes in onnxruntime what the original computes."""

import jax
import numpy as np
import pytest

from jaxrecipes.convert import from_torch
from jaxrecipes.export.onnx import check_onnx, onnx_model
from jaxrecipes.recipes.face3d.network import face3d
from jaxrecipes.recipes.face3d.original import network_config

CASES = ["dec_pose0", "dec_pose1", "dec_noangle", "clipmlp_pose1"]
CASES += ["kp_sp0_pose0", "kp_sp1_pose1", "encdec_pe0", "encdec_pe1", "warp_full", "warp_min"]
LIMIT = 5e-6  # absolute; reached: 1.2e-6


def exported(golden, name):
    arrays = golden(f"face3d/{name}")
    cfg = golden.json(arrays["cfg"])
    state_dict = {k.removeprefix("sd/"): v for k, v in arrays.items() if k.startswith("sd/")}
    _, params, batch_stats = from_torch("face3d", state_dict, cfg)
    config = network_config(cfg, params)
    eight = np.arange(8) % len(arrays["in/src"])
    names = ["src", "pose"] + ["keypoints_3d"] * config.keypoints
    inputs = {name: arrays[f"in/{name}"][eight] for name in names}
    network = face3d(config)
    model = onnx_model(
        lambda variables, x: {"frontal": network.apply(variables, x, train=False)},
        {"params": params, "batch_stats": batch_stats},
        {name: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for name, x in inputs.items()},
    )
    return model, inputs, {"frontal": arrays["eval64/full"][eight]}


@pytest.mark.parametrize("name", CASES)
def test_the_graph_computes_what_the_original_does(golden, name):
    model, inputs, want = exported(golden, name)
    assert check_onnx(model.SerializeToString(), lambda _: want, inputs) < LIMIT


def test_an_attention_over_one_key_is_one_matrix(golden):
    model, _, _ = exported(golden, "dec_pose0")
    shapes = [tuple(array.dims) for array in model.graph.initializer]
    width = 18
    # The pose's own branches, the memory of the pose and what attends to it.
    assert sum(shape == (3, width) for shape in shapes) == 4
    assert not {"Softmax", "Reshape", "Transpose"} & {node.op_type for node in model.graph.node}
