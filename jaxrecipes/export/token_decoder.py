"""The decoder of tokens that attend to a context, as a part of an ONNX graph."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrecipes.export.graph import GraphBuilder

EPS = 1e-5  # of every LayerNorm
Tree = Mapping[str, Any]


def decoder_layers(
    graph: GraphBuilder,
    x: str,
    context: str,
    weights: Tree,
    *,
    depth: int,
    tokens: int,
    num_heads: int,
    dim_head: int,
    name: str,
) -> str:
    """The layers of a `TokenDecoder`, in evaluation.

    Args:
      graph: takes the nodes.
      x: `[B, T, C]`, embedded and with their positions.
      context: `[B, N, K]`.
      weights: of the decoder, float64.
      depth: layers.
      tokens: T.
      num_heads: attention heads.
      dim_head: channels of a head.
      name: prefix of the stored weights' names.
    """
    heads = num_heads, dim_head
    for i in range(depth):
        layer, prefix = weights[f"layers_{i}"], f"{name}.layers.{i}"
        y = graph.layer_norm(x, layer["norm1"], eps=EPS, name=f"{prefix}.norm1")
        x = graph.add(x, _self_attention(graph, y, layer["self_attn"], tokens, heads, prefix))
        y = graph.layer_norm(x, layer["norm2"], eps=EPS, name=f"{prefix}.norm2")
        y = _context_attention(graph, y, context, layer["cross_attn"], tokens, heads, prefix)
        x = graph.add(x, y)
        y = graph.layer_norm(x, layer["norm3"], eps=EPS, name=f"{prefix}.norm3")
        y = graph.gelu(graph.linear(y, **layer["mlp"]["linear1"], name=f"{prefix}.linear1"))
        x = graph.add(x, graph.linear(y, **layer["mlp"]["linear2"], name=f"{prefix}.linear2"))
    return x


def _self_attention(
    graph: GraphBuilder, x: str, weights: Tree, tokens: int, heads: tuple[int, int], name: str
) -> str:
    """Of a single token it is a linear map."""
    inner = math.prod(heads)
    out = weights.get("out") or {"kernel": np.eye(inner), "bias": np.zeros(inner)}
    if tokens == 1:
        kernel = weights["qkv"][:, 2 * inner :] @ out["kernel"]
        return graph.linear(x, kernel, out["bias"], name=f"{name}.self_attn")
    packed = {"kernel": weights["qkv"], "bias": np.zeros(3 * inner)}
    return graph.attention(
        x,
        {"in_proj": packed, "out_proj": out},
        tokens=tokens,
        channels=inner,
        num_heads=heads[0],
        name=f"{name}.self_attn",
    )


def _context_attention(
    graph: GraphBuilder,
    x: str,
    context: str,
    weights: Tree,
    tokens: int,
    heads: tuple[int, int],
    name: str,
) -> str:
    """As `ContextAttention`: keys and values are never made."""
    inner, prefix = math.prod(heads), f"{name}.cross_attn"
    kernel = weights["kv"]
    to_key, to_value = kernel.reshape(len(kernel), 2, *heads).transpose(1, 2, 0, 3)

    def matmul(y: str, array: np.ndarray, part: str) -> str:
        return graph.node("MatMul", y, graph.constant(array, f"{prefix}.{part}"))

    query = matmul(x, weights["q"]["kernel"] / math.sqrt(heads[1]), "q")
    query = graph.transpose(graph.reshape(query, (0, tokens, *heads)), (0, 2, 1, 3))
    query = matmul(query, to_key.swapaxes(-1, -2), "key")  # B heads T K
    shared = graph.node("Unsqueeze", context, graph.constant([1]))  # B 1 N K
    scores = graph.node("MatMul", query, graph.transpose(shared, (0, 1, 3, 2)))
    probs = graph.node("Softmax", scores, axis=-1)
    mixed = matmul(graph.node("MatMul", probs, shared), to_value, "value")  # B heads T d
    mixed = graph.reshape(graph.transpose(mixed, (0, 2, 1, 3)), (0, tokens, inner))
    if "out" not in weights:
        return mixed
    return graph.linear(mixed, **weights["out"], name=f"{prefix}.out")
