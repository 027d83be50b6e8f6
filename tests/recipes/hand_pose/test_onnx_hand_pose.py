"""hand_pose as ONNX, in onnxruntime, against the network itself."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxrecipes.compile_quickly import run_once
from jaxrecipes.export.onnx import check_onnx, onnx_model
from jaxrecipes.models.dinov2.config import Dinov2Config
from jaxrecipes.recipes.hand_pose.deploy import predict_fn
from jaxrecipes.recipes.hand_pose.network import HandPose
from jaxrecipes.recipes.hand_pose.network_config import (
    HandDecoderConfig,
    HandPoseConfig,
    PerspectiveConfig,
)

BACKBONE = Dinov2Config(width=8, depth=2, num_heads=2, mlp_ratio=2, image_size=42)
HANDEC = HandDecoderConfig(num_layer=2, num_head=3, dim_head=4, dim_mlp=8, heatmap_resolution=(5,))
CONFIG = HandPoseConfig(
    backbone=BACKBONE,
    img_size=28,
    handec=HANDEC,
    persp_info_embed=PerspectiveConfig(num_sample=2),
)
WITHOUT_CAMERA = dataclasses.replace(CONFIG, persp_info_embed=PerspectiveConfig(type="none"))
GATED = dataclasses.replace(BACKBONE, swiglu=True, num_registers=4)
VARIANTS = {
    "rays attended to": (CONFIG, 17),
    "registers and SwiGLU, no class token, outputs with statistics": (
        dataclasses.replace(
            WITHOUT_CAMERA,
            backbone=GATED,
            drop_cls=True,
            handec=dataclasses.replace(HANDEC, denorm_output="statistics.npz"),
        ),
        20,
    ),
    "infusion past registers, dense rays on patches": (
        dataclasses.replace(
            CONFIG,
            backbone=dataclasses.replace(BACKBONE, num_registers=2),
            infusion_layer=(0, 2),
            persp_info_embed=PerspectiveConfig(type="dense", num_sample=2, pie_fusion="patch"),
        ),
        18,
    ),
    "6d, one head as wide as the token, millimetres": (
        dataclasses.replace(
            WITHOUT_CAMERA,
            joint_type="6d",
            norm_by_hand=False,
            handec=dataclasses.replace(HANDEC, num_head=1, dim_head=12, width=12),
        ),
        17,
    ),
}


def random_weights(config, rng):
    """`(params, batch_stats)` in which no factor is 1 and no shift is 0."""
    model = HandPose(config)
    size = config.img_size
    inputs = {
        "patch": np.zeros((1, 1, size, size, 3), np.float32),
        "patch_bbox": np.ones((1, 1, 4), np.float32),
        "focal": np.ones((1, 1, 2), np.float32),
        "princpt": np.ones((1, 1, 2), np.float32),
    }
    shapes = jax.eval_shape(lambda key: model.init(key, inputs, train=False), jax.random.key(0))

    def draw(path, leaf):
        low, high = (0.5, 1.5) if path[-1].key in ("scale", "var") else (-0.5, 0.5)
        return rng.uniform(low, high, leaf.shape).astype(leaf.dtype)

    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    return variables["params"], variables.get("batch_stats", {})


@pytest.mark.parametrize("variant", VARIANTS)
def test_onnxruntime_computes_what_the_network_computes(variant):
    pytest.importorskip("onnxruntime")
    config, opset = VARIANTS[variant]
    rng = np.random.default_rng(0)
    params, batch_stats = random_weights(config, rng)
    corner = rng.uniform(0.0, 99.0, (8, 2))
    inputs = {
        "patch": rng.random((8, 3, config.img_size, config.img_size)),
        "patch_bbox": np.concatenate([corner, corner + 50.0], axis=1),
        "focal": rng.uniform(60.0, 90.0, (8, 2)),
        "princpt": rng.uniform(30.0, 90.0, (8, 2)),
    }
    inputs = {name: array.astype(np.float32) for name, array in inputs.items()}
    function, variables = predict_fn(config), {"params": params, "batch_stats": batch_stats}
    shapes = {name: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for name, x in inputs.items()}
    graph = onnx_model(function, variables, shapes, opset=opset)

    def network(inputs):
        return run_once(lambda x: function(variables, x), inputs)

    assert check_onnx(graph.SerializeToString(), network, inputs) < 5e-6
