"""hand_pose as ONNX, in onnxruntime, against the network itself."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxrecipes.export.hand_pose import hand_pose_graph
from jaxrecipes.export.onnx_file import check_onnx
from jaxrecipes.models.dinov2_config import Dinov2Config
from jaxrecipes.models.hand_pose import HandPose
from jaxrecipes.models.hand_pose_config import (
    HandDecoderConfig,
    HandPoseConfig,
    PerspectiveConfig,
    TemporalConfig,
)
from jaxrecipes.run_once import run_once

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


def network(config, params, batch_stats):
    """The function that the file is to compute."""

    def run(inputs):
        patch = inputs["patch"].transpose(0, 2, 3, 1)
        frames = dict(inputs, patch=(patch - np.array(config.img_mean)) / np.array(config.img_std))
        outputs = HandPose(config).apply(
            {"params": params, "batch_stats": batch_stats},
            {name: array[:, None] for name, array in frames.items()},
            train=False,
        )
        return {name: outputs[name][:, 0] for name in ("pose", "betas", "trans")}

    return lambda inputs: run_once(run, inputs)


@pytest.mark.parametrize("variant", VARIANTS)
def test_onnxruntime_computes_what_the_network_computes(variant):
    pytest.importorskip("onnxruntime")
    config, opset = VARIANTS[variant]
    rng = np.random.default_rng(0)
    params, batch_stats = random_weights(config, rng)
    graph = hand_pose_graph(config, params, batch_stats, opset=opset)
    corner = rng.uniform(0.0, 99.0, (8, 2))
    inputs = {
        "patch": rng.random((8, 3, config.img_size, config.img_size)),
        "patch_bbox": np.concatenate([corner, corner + 50.0], axis=1),
        "focal": rng.uniform(60.0, 90.0, (8, 2)),
        "princpt": rng.uniform(30.0, 90.0, (8, 2)),
    }
    found = check_onnx(graph.SerializeToString(), network(config, params, batch_stats), inputs)
    assert found < 5e-6


def test_a_network_of_clips_has_no_graph():
    clips = dataclasses.replace(CONFIG, temporal=TemporalConfig(layers=1, heads=2), num_frame=2)
    with pytest.raises(ValueError, match="one frame"):
        hand_pose_graph(clips, {}, {})
