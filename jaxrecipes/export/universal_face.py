"""Exports of the universal face network: embedding and pose to the heads of mode "inference"."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxrecipes.export.folding import weights64
from jaxrecipes.export.graph import MIN_OPSET, GraphBuilder
from jaxrecipes.export.pose_text import CodeLookup, code_lookup
from jaxrecipes.models.universal_face import NUM_TOKENS, UniversalFace, UniversalFaceConfig

Tree = Mapping[str, Any]
_EPS, _UNIT_EPS = 1e-5, 1e-12


def input_shapes(config: UniversalFaceConfig) -> dict[str, tuple[int, ...]]:
    """Shape of one example of each input: `src`, an embedding, and `pose`, degrees."""
    return {"src": (config.feat_dim,), "pose": (3,)}


def predict_fn(
    config: UniversalFaceConfig, params: Any, batch_stats: Any
) -> Callable[[dict[str, jax.Array]], dict[str, jax.Array]]:
    """`src` `[B, D]` and `pose` `[B, 3]` by name to the heads; jitted, weights closed over."""
    variables = {"params": params, "batch_stats": batch_stats}

    def predict(inputs: dict[str, jax.Array]) -> dict[str, jax.Array]:
        heads: Any = UniversalFace(config).apply(
            variables, inputs["src"], inputs["pose"], mode="inference"
        )
        return heads

    return jax.jit(predict)


def universal_face_graph(
    config: UniversalFaceConfig,
    params: Any,
    *,
    batch_stats: Any = None,
    opset: int = MIN_OPSET,
    metadata: Mapping[str, str] | None = None,
) -> Any:
    """The `onnx.ModelProto` of mode "inference" with the pose given.

    Inputs `src` `[batch, D]` and `pose` `[batch, 3]`; outputs `id_features`, `pose_features`,
    `pose_angles` and `projected`, all but the angles of length 1.

    Args:
      config: the architecture.
      params: parameters of the network.
      batch_stats: wanted for its tables of phrases, with `config.use_clip_pose_encoder`.
      opset: version of the operators.
      metadata: texts to store in the file.

    Raises:
      ImportError: onnx is not installed.
      ValueError: the opset does not do.
    """
    graph, weights = GraphBuilder(opset=opset), weights64(params)
    x = _dense(graph, "src", weights["feat_proj"], "feat_proj")
    x = graph.relu(_norm(graph, x, weights["feat_norm"], "feat_norm"))
    x = graph.reshape(x, (0, NUM_TOKENS, config.feat_dim // NUM_TOKENS))
    x = _tokens(graph, x, weights["token_proj"], "token_proj")
    x = graph.add(x, graph.constant(weights["pos_encoding"], "pos_encoding"))
    lookup = code_lookup(graph) if config.use_clip_pose_encoder else None
    for i in range(config.transformer_depth):
        block = weights[f"blocks_{i}"]
        if lookup is not None:
            block["attn"] |= weights64(batch_stats[f"blocks_{i}"]["attn"])
        x = _block(graph, x, block, config, lookup, f"blocks.{i}")
    x = graph.mean(_norm(graph, x, weights["norm"], "norm"), 1)

    identity = _product(graph, x, weights["id_proj"], "id_proj")
    pose_code = _product(graph, x, weights["pose_proj"], "pose_proj")
    enhancer = weights["id_enhancer"]
    gate = graph.node("Concat", identity, pose_code, axis=-1)
    gate = graph.relu(_dense(graph, gate, enhancer["gate_hidden"], "id_enhancer.gate_hidden"))
    gate = graph.sigmoid(_dense(graph, gate, enhancer["gate_out"], "id_enhancer.gate_out"))
    seen = {"kernel": 0.15 * enhancer["pose_proj"]["kernel"]}
    seen_name = _product(graph, pose_code, seen, "id_enhancer.pose_proj")
    identity = graph.node("Sub", identity, graph.multiply(gate, seen_name))

    head = weights["pose_head"]
    hidden = graph.relu(_dense(graph, pose_code, head["hidden"], "pose_head.hidden"))
    angles = _dense(graph, hidden, head["out"], "pose_head.out")
    projection = weights["loss_projections"]["id_to_feat"]
    projected = _product(graph, identity, projection, "id_to_feat")
    return graph.model(
        inputs={name: ("batch", *shape) for name, shape in input_shapes(config).items()},
        outputs={
            "id_features": (_unit(graph, identity), ("batch", config.id_dim)),
            "pose_features": (_unit(graph, pose_code), ("batch", config.pose_dim)),
            "pose_angles": (angles, ("batch", 3)),
            "projected": (_unit(graph, projected), ("batch", config.feat_dim)),
        },
        metadata=metadata or {},
    )


def _block(
    graph: GraphBuilder,
    x: str,
    weights: Tree,
    config: UniversalFaceConfig,
    lookup: CodeLookup | None,
    name: str,
) -> str:
    codes = graph.reshape(
        _pose_mlp(graph, weights["norm1"], f"{name}.norm1"), (0, 1, 2 * config.feat_dim)
    )
    scale, shift = _split(graph, codes, [config.feat_dim] * 2)
    y = _norm(graph, x, weights["norm1"]["norm"], f"{name}.norm1.norm")
    y = graph.add(graph.multiply(scale, y), shift)
    x = graph.add(x, _attention(graph, y, weights["attn"], config, lookup, f"{name}.attn"))
    y = _norm(graph, x, weights["norm2"], f"{name}.norm2")
    y = graph.gelu(_tokens(graph, y, weights["mlp_hidden"], f"{name}.mlp_hidden"))
    return graph.add(x, _tokens(graph, y, weights["mlp_out"], f"{name}.mlp_out"))


def _attention(
    graph: GraphBuilder,
    x: str,
    weights: Tree,
    config: UniversalFaceConfig,
    lookup: CodeLookup | None,
    name: str,
) -> str:
    """As `PoseAttention`: nothing is added to the keys, which would change nothing."""
    channels, heads = config.feat_dim, config.transformer_heads
    width = channels // heads
    scale = 1.0 / math.sqrt(width)  # of the scores, on the queries

    def without_keys(columns: np.ndarray) -> np.ndarray:
        query, _, value = np.split(columns, 3, axis=-1)
        return np.concatenate([query * scale, value], axis=-1)

    kernel = weights["qkv"]["kernel"].copy()
    kernel[:, :channels] *= scale
    bias = weights["qkv"]["bias"] + weights["pose_out"]["bias"]
    pose_out = {
        "kernel": without_keys(weights["pose_out"]["kernel"]),
        "bias": without_keys(bias),
    }
    if lookup is None:
        code = _pose_mlp(graph, {**weights, "pose_out": pose_out}, name)
    else:
        code = lookup(weights["pose_text"]["table"], weights["pose_hidden"], pose_out, name=name)
    query_shift, value_shift = _split(
        graph, graph.reshape(code, (0, 1, 2 * channels)), [channels] * 2
    )
    packed = _product(graph, x, {"kernel": kernel}, f"{name}.qkv")
    query, key, value = _split(graph, packed, [channels] * 3)
    query, value = graph.add(query, query_shift), graph.add(value, value_shift)
    query, key, value = (
        graph.reshape(part, (0, NUM_TOKENS, heads, width)) for part in (query, key, value)
    )
    query, value = (graph.transpose(part, (0, 2, 1, 3)) for part in (query, value))
    scores = graph.node("MatMul", query, graph.transpose(key, (0, 2, 3, 1)))
    probs = graph.node("Softmax", scores, axis=-1)
    mixed = graph.transpose(graph.node("MatMul", probs, value), (0, 2, 1, 3))
    mixed = graph.reshape(mixed, (0, NUM_TOKENS, channels))
    return _tokens(graph, mixed, weights["proj"], f"{name}.proj")


def _pose_mlp(graph: GraphBuilder, weights: Tree, name: str) -> str:
    hidden = graph.relu(_dense(graph, "pose", weights["pose_hidden"], f"{name}.pose_hidden"))
    return _dense(graph, hidden, weights["pose_out"], f"{name}.pose_out")


def _dense(graph: GraphBuilder, x: str, weights: Tree, name: str) -> str:
    return graph.dense(x, weights["kernel"], weights["bias"], name=name)


def _tokens(graph: GraphBuilder, x: str, weights: Tree, name: str) -> str:
    return graph.linear(x, weights["kernel"], weights["bias"], name=name)


def _product(graph: GraphBuilder, x: str, weights: Tree, name: str) -> str:
    return graph.node("MatMul", x, graph.constant(weights["kernel"], f"{name}.weight"))


def _norm(graph: GraphBuilder, x: str, weights: Tree, name: str) -> str:
    return graph.layer_norm(x, weights, eps=_EPS, name=name)


def _split(graph: GraphBuilder, x: str, sizes: list[int]) -> list[str]:
    return graph.node("Split", x, graph.constant(sizes), axis=-1, outputs=len(sizes))


def _unit(graph: GraphBuilder, x: str) -> str:
    square = graph.node("ReduceSum", graph.multiply(x, x), graph.constant([-1]), keepdims=1)
    norm = graph.node("Max", graph.node("Sqrt", square), graph.constant(_UNIT_EPS))
    return graph.node("Div", x, norm)
