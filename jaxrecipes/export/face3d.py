"""face3d as an ONNX graph: `src` `[batch, D]`, `pose` `[batch, 3]` to `frontal` `[batch, D]`.

In evaluation an attention over one key is a linear map, and one of the pose memory is a linear map
of the pose: both are stored as one matrix.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrecipes.export.folding import batch_norm_affine, weights64
from jaxrecipes.export.graph import MIN_OPSET, GraphBuilder
from jaxrecipes.export.pose_text import code_lookup
from jaxrecipes.models.face3d_config import Face3DConfig

EPS = 1e-5  # of every LayerNorm
Linear = tuple[np.ndarray, np.ndarray]  # kernel [in, out] and bias [out]
Tree = Mapping[str, Any]


def face3d_graph(
    config: Face3DConfig,
    params: Tree,
    batch_stats: Tree,
    *,
    opset: int = MIN_OPSET,
    metadata: Mapping[str, str] | None = None,
) -> Any:
    """The `ModelProto` of a network in evaluation.

    Args:
      config: the architecture.
      params: parameters of the network.
      batch_stats: running statistics of the keypoint decoder, otherwise empty.
      opset: version of the operators.
      metadata: texts to store in the file.

    Raises:
      ImportError: onnx is not installed.
      ValueError: the opset does not do.
    """
    graph = GraphBuilder(opset=opset)
    weights, stats = weights64(params), weights64(batch_stats)
    if config.model_type == "encoder_decoder":
        added = _encoder_decoder(graph, config, weights)
    elif config.model_type == "angle_warping":
        added = _angle_warping(graph, config, weights)
    else:
        added = _decoder(graph, config, weights, stats)
    inputs: dict[str, tuple[int | str, ...]] = {
        name: ("batch", *shape) for name, shape in input_shapes(config).items()
    }
    return graph.model(
        inputs=inputs,
        outputs={"frontal": (graph.add("src", added), ("batch", config.feature_size))},
        metadata=metadata or {},
    )


def input_shapes(config: Face3DConfig) -> dict[str, tuple[int, ...]]:
    """Shape of one example of each input of the network."""
    shapes: dict[str, tuple[int, ...]] = {"src": (config.feature_size,), "pose": (3,)}
    if config.keypoints:
        shapes["keypoints_3d"] = (config.num_keypoints, 3)
    return shapes


def _linear(weights: Tree) -> Linear:
    return weights["kernel"], weights["bias"]


def _chain(*linears: Linear) -> Linear:
    """One linear map for several that follow each other."""
    kernel, bias = linears[0]
    for next_kernel, next_bias in linears[1:]:
        kernel, bias = kernel @ next_kernel, bias @ next_kernel + next_bias
    return kernel, bias


def _attention(weights: Tree) -> Linear:
    return _chain(_linear(weights["value"]), _linear(weights["out_proj"]))


def _dense(graph: GraphBuilder, x: str, linear: Linear, name: str) -> str:
    return graph.dense(x, *linear, name=name)


def _norm(graph: GraphBuilder, x: str, weights: Tree, name: str) -> str:
    return graph.layer_norm(x, weights, eps=EPS, name=name)


def _mlp(graph: GraphBuilder, x: str, weights: Tree, name: str) -> str:
    x = graph.relu(_dense(graph, x, _linear(weights["dense1"]), f"{name}.0"))
    return _dense(graph, x, _linear(weights["dense2"]), f"{name}.2")


def _scaled(linear: Linear, scale: Any) -> Linear:
    return linear[0] * scale, linear[1] * scale


def _angle_conditioned_norm(graph: GraphBuilder, x: str, weights: Tree) -> str:
    name = "angle_conditioned_norm"
    scale = graph.sigmoid(_mlp(graph, "pose", weights["angle_to_scale"], f"{name}.scale"))
    shift = _mlp(graph, "pose", weights["angle_to_shift"], f"{name}.shift")
    x = _norm(graph, x, weights["layer_norm"], f"{name}.layer_norm")
    return graph.add(graph.multiply(x, graph.add(scale, graph.constant(1.0))), shift)


def _angle_pe(graph: GraphBuilder, x: str, weights: Tree) -> str:
    projection = _scaled(_linear(weights["angle_projection"]), weights["scale"])
    return graph.add(x, _dense(graph, "pose", projection, "angle_pe"))


def _feed_forward(graph: GraphBuilder, x: str, weights: Tree, name: str) -> str:
    x = graph.gelu(_dense(graph, x, _linear(weights["linear1"]), f"{name}.linear1"))
    return _dense(graph, x, _linear(weights["linear2"]), f"{name}.linear2")


def _layers(weights: Tree, name: str) -> list[tuple[str, Tree]]:
    stack = weights[name]
    return [(f"{name}.layers.{i}", stack[f"layers_{i}"]) for i in range(len(stack))]


def _decoder(graph: GraphBuilder, config: Face3DConfig, weights: Tree, stats: Tree) -> str:
    encoder = weights["pose_encoder"]
    if config.encodes_text:
        table = stats["pose_encoder"]["pose_text"]["table"]
        lookup = code_lookup(graph)
        code = lookup(table, encoder["dense1"], encoder["dense2"], name="pose_encoder")
    else:
        code = _mlp(graph, "pose", encoder, "pose_encoder")
    x = _dense(graph, "src", _linear(weights["input_projection"]), "input_projection")
    if config.use_spatial_attention:
        x = _spatial_fusion(graph, x, weights["spatial_fusion"], config.num_keypoints)
    if config.use_pose_attention:
        key = code if config.model_type == "decoder_only_clip" else "pose"
        value = _linear(weights["pose_attention"]["pose_to_value"])
        x = graph.add(x, _dense(graph, key, value, "pose_attention.pose_to_value"))
    if config.keypoints:
        raw = np.exp(weights["fusion_weights"] - weights["fusion_weights"].max())
        first, second, third = (graph.constant(share) for share in raw / raw.sum())
        points = _keypoint_encoder(graph, weights["keypoint_encoder"], stats["keypoint_encoder"])
        x = graph.add(graph.multiply(x, first), graph.multiply(points, second))
        x = graph.add(x, graph.multiply(code, third))
    else:
        x = graph.multiply(x, graph.constant(0.7))
        x = graph.add(x, graph.multiply(code, graph.constant(0.3)))
    if config.use_angle_pe:
        x = _angle_pe(graph, x, weights["angle_pe"])
    if config.use_angle_conditioning:
        x = _angle_conditioned_norm(graph, x, weights["angle_conditioned_norm"])
    memory = _linear(weights["angle_memory_projection"])
    for name, layer in _layers(weights, "transformer_decoder"):
        attended = _dense(graph, x, _attention(layer["self_attn"]), f"{name}.self_attn")
        x = _norm(graph, graph.add(x, attended), layer["norm1"], f"{name}.norm1")
        cross = _chain(memory, _attention(layer["multihead_attn"]))
        attended = _dense(graph, "pose", cross, f"{name}.multihead_attn")
        x = _norm(graph, graph.add(x, attended), layer["norm2"], f"{name}.norm2")
        y = _feed_forward(graph, x, layer, name)
        x = _norm(graph, graph.add(x, y), layer["norm3"], f"{name}.norm3")
    return _dense(graph, x, _linear(weights["output_projection"]), "output_projection")


def _spatial_fusion(graph: GraphBuilder, x: str, weights: Tree, num_keypoints: int) -> str:
    name = "spatial_fusion"
    ends = graph.constant([0]), graph.constant([2]), graph.constant([2])
    points = graph.reshape(graph.node("Slice", "keypoints_3d", *ends), (0, 2 * num_keypoints))
    code = _mlp(graph, points, weights["keypoint_encoder"], f"{name}.keypoint_encoder")
    both = graph.node("Concat", x, code, axis=-1)
    gate = _mlp(graph, both, weights["attention_generator"], f"{name}.attention_generator")
    return _mixed(graph, graph.sigmoid(gate), code, x)


def _mixed(graph: GraphBuilder, gate: str, x: str, y: str) -> str:
    """`y + gate * (x - y)`."""
    return graph.add(y, graph.multiply(gate, graph.node("Sub", x, y)))


def _keypoint_encoder(graph: GraphBuilder, weights: Tree, stats: Tree) -> str:
    factor, shift = batch_norm_affine(weights["norm"], stats["norm"])
    kernel, bias = _linear(weights["dense1"])
    first = kernel * factor, bias * factor + shift
    x = graph.relu(_dense(graph, graph.flatten("keypoints_3d"), first, "keypoint_encoder.0"))
    return _dense(graph, x, _linear(weights["dense2"]), "keypoint_encoder.4")


def _encoder_decoder(graph: GraphBuilder, config: Face3DConfig, weights: Tree) -> str:
    memory = _dense(graph, "src", _linear(weights["input_projection"]), "input_projection")
    for name, layer in _layers(weights, "encoder"):
        memory = _pre_norm(graph, memory, layer, _attention(layer["self_attn"]), name)
        y = _norm(graph, memory, layer["norm2"], f"{name}.norm2")
        memory = graph.add(memory, _feed_forward(graph, y, layer, name))
    projection = _linear(weights["decoder_input_projection"])
    x = _dense(graph, memory, projection, "decoder_input_projection")
    if config.use_pose_pe:
        radians = graph.multiply("pose", graph.constant(math.pi / 180.0))
        waves = graph.node("Sin", radians), graph.node("Cos", radians)
        pe = weights["pose_pe"]
        dense2 = _scaled(_linear(pe["pose_pe"]["dense2"]), pe["scale"])
        scaled = pe["pose_pe"] | {"dense2": dict(zip(("kernel", "bias"), dense2, strict=True))}
        x = graph.add(x, _mlp(graph, graph.node("Concat", *waves, axis=-1), scaled, "pose_pe"))
        x = _angle_pe(graph, x, weights["angle_pe"])
    x = _angle_conditioned_norm(graph, x, weights["angle_conditioned_norm"])
    for name, layer in _layers(weights, "decoder"):
        x = _pre_norm(graph, x, layer, _attention(layer["self_attn"]), name)
        cross = _attention(layer["multihead_attn"])
        x = graph.add(x, _dense(graph, memory, cross, f"{name}.multihead_attn"))
        y = _norm(graph, x, layer["norm3"], f"{name}.norm3")
        x = graph.add(x, _feed_forward(graph, y, layer, name))
    return _output(graph, x, weights)


def _pre_norm(graph: GraphBuilder, x: str, layer: Tree, attention: Linear, name: str) -> str:
    y = _norm(graph, x, layer["norm1"], f"{name}.norm1")
    return graph.add(x, _dense(graph, y, attention, f"{name}.self_attn"))


def _output(graph: GraphBuilder, x: str, weights: Tree) -> str:
    x = _dense(graph, x, _linear(weights["output_projection"]), "output_projection")
    return _norm(graph, x, weights["output_norm"], "output_norm")


def _angle_warping(graph: GraphBuilder, config: Face3DConfig, weights: Tree) -> str:
    warp = weights["angle_warping"]
    size = config.d_model

    def linear(x: str, name: str) -> str:
        return _dense(graph, x, _linear(warp[name]), f"angle_warping.{name}")

    def normed(x: str, name: str) -> str:
        return graph.relu(_norm(graph, x, warp[name], f"angle_warping.{name}"))

    x = normed(linear("pose", "transform1"), "transform_norm")
    x = linear(graph.relu(linear(x, "transform2")), "transform3")
    scale, shift = graph.node("Split", x, graph.constant([size, size]), axis=-1, outputs=2)
    scale = graph.multiply(graph.sigmoid(scale), graph.constant(2.0))
    y = graph.add(graph.multiply("src", scale), shift)
    if config.use_basis:
        x = graph.relu(linear(graph.node("Concat", y, "pose", axis=-1), "selector1"))
        shares = graph.node("Softmax", linear(x, "selector2"), axis=-1)
        basis = graph.constant(warp["feature_basis"], "angle_warping.feature_basis")
        mixture = graph.node("MatMul", shares, basis)
        products = graph.multiply(y, mixture)
        gate = graph.sigmoid(graph.node("ReduceSum", products, graph.constant([-1]), keepdims=1))
        y = _mixed(graph, gate, y, mixture)
    if config.use_refinement:
        x = normed(linear(y, "refinement1"), "refinement_norm")
        x = linear(graph.relu(linear(x, "refinement2")), "refinement3")
        y = graph.add(y, graph.multiply(x, graph.constant(0.1)))
    if config.use_attention_refine:
        for i in range(config.num_attention_layers):
            name = f"attention_refiners_{i}"
            attended = _dense(graph, y, _attention(weights[name]["attention"]), name)
            y = _norm(graph, graph.add(y, attended), weights[name]["norm"], f"{name}.norm")
    return _output(graph, y, weights)
