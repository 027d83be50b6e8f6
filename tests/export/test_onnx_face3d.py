"""face3d as ONNX: every network computes in onnxruntime what the original computes."""

import numpy as np
import pytest

from jaxrecipes.convert import from_torch
from jaxrecipes.convert.face3d import network_config
from jaxrecipes.export.face3d import face3d_graph, input_shapes
from jaxrecipes.export.onnx_file import check_onnx

CASES = ["dec_pose0", "dec_pose1", "dec_noangle", "clipmlp_pose1"]
CASES += ["kp_sp0_pose0", "kp_sp1_pose1", "encdec_pe0", "encdec_pe1", "warp_full", "warp_min"]
LIMIT = 5e-6  # absolute; reached: 1.2e-6


@pytest.mark.parametrize("name", CASES)
def test_the_graph_computes_what_the_original_does(golden, name):
    arrays = golden(f"face3d/{name}")
    cfg = golden.json(arrays["cfg"])
    state_dict = {k.removeprefix("sd/"): v for k, v in arrays.items() if k.startswith("sd/")}
    _, params, batch_stats = from_torch("face3d", state_dict, cfg)
    config = network_config(cfg, params)
    eight = np.arange(8) % len(arrays["in/src"])
    inputs = {name: arrays[f"in/{name}"][eight] for name in input_shapes(config)}
    model = face3d_graph(config, params, batch_stats)
    want = {"frontal": arrays["eval64/full"][eight]}
    assert check_onnx(model.SerializeToString(), lambda _: want, inputs) < LIMIT


def test_an_attention_over_one_key_is_one_matrix(golden):
    arrays = golden("face3d/dec_pose0")
    cfg = golden.json(arrays["cfg"])
    state_dict = {k.removeprefix("sd/"): v for k, v in arrays.items() if k.startswith("sd/")}
    _, params, _ = from_torch("face3d", state_dict, cfg)
    model = face3d_graph(network_config(cfg, params), params, {})
    shapes = {w.name: tuple(w.dims) for w in model.graph.initializer}
    layer = "transformer_decoder.layers.0"
    width = cfg["d_model"]
    assert shapes[f"{layer}.self_attn.weight"] == (width, width)
    assert shapes[f"{layer}.multihead_attn.weight"] == (3, width)
    assert not any("query_key" in name for name in shapes)
