"""clip_iqa as an ONNX graph: `image` `[batch, 3, S, S]` in [0, 1] and `tokens` `[batch, T]` int32,
T being the context length, to `quality` and `consistency`, `[batch]`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrecipes.export.folding import weights64
from jaxrecipes.export.graph import MIN_OPSET, GraphBuilder
from jaxrecipes.export.vision_transformer import patch_tokens, transformer_block, with_first_tokens
from jaxrecipes.models.clip import IMAGE_MEAN, IMAGE_STD
from jaxrecipes.models.clip_config import ClipTextConfig, ClipTowerConfig, ClipVisionConfig
from jaxrecipes.models.clip_iqa_config import ClipIqaConfig

EPS = 1e-5  # of the heads' LayerNorms
Tree = Mapping[str, Any]


def clip_iqa_graph(
    config: ClipIqaConfig,
    params: Tree,
    *,
    residual_scale_q: float = 0.2,
    residual_scale_c: float = 0.2,
    opset: int = MIN_OPSET,
    metadata: Mapping[str, str] | None = None,
) -> Any:
    """The `ModelProto` of a network in evaluation.

    Args:
      config: the architecture.
      params: parameters of the network.
      residual_scale_q: how far residual heads correct the quality.
      residual_scale_c: how far they correct the consistency.
      opset: version of the operators.
      metadata: texts to store in the file.

    Raises:
      ImportError: onnx is not installed.
      ValueError: the opset does not do.
    """
    graph, weights, clip = GraphBuilder(opset=opset), weights64(params), config.clip
    image = _vision(graph, clip.vision, weights["clip"]["vision"])
    text = _text(graph, clip.text, weights["clip"]["text"])
    ones = graph.constant(np.ones((clip.projection_dim, 1)))
    cosine = graph.node("MatMul", graph.multiply(image, text), ones)
    if config.heads.mode == "residual":
        scales = residual_scale_q, residual_scale_c
        scores = _residual(graph, weights, image, text, cosine, scales)
    else:
        scores = _traditional(graph, config, weights, image, text, cosine)
    size = clip.vision.image_size
    return graph.model(
        inputs={
            "image": ("batch", 3, size, size),
            "tokens": ("batch", clip.text.context_length),
        },
        integers=("tokens",),
        outputs={
            name: (graph.reshape(score, (-1,)), ("batch",))
            for name, score in zip(("quality", "consistency"), scores, strict=True)
        },
        metadata=metadata or {},
    )


def _vision(graph: GraphBuilder, config: ClipVisionConfig, weights: Tree) -> str:
    """A unit vector."""
    count = config.grid**2
    x = patch_tokens(
        graph,
        "image",
        weights["patch_embedding"]["kernel"],
        count=count,
        mean=IMAGE_MEAN,
        std=IMAGE_STD,
        name="vision.patches",
    )
    positions = weights["position_embedding"]
    first = weights["class_embedding"] + positions[:1]
    x = with_first_tokens(graph, x, first, positions[1:], name="vision.positions")
    x = graph.layer_norm(x, weights["pre_norm"], eps=config.norm_eps, name="vision.pre_norm")
    x = _blocks(graph, x, config, weights, tokens=count + 1, name="vision")
    x = graph.node("Gather", x, graph.constant(0), axis=1)
    x = graph.layer_norm(x, weights["post_norm"], eps=config.norm_eps, name="vision.post_norm")
    return _projected(graph, x, weights, "vision")


def _text(graph: GraphBuilder, config: ClipTextConfig, weights: Tree) -> str:
    """A unit vector."""
    length = config.context_length
    table = graph.constant(weights["token_embedding"], "text.token_embedding")
    positions = graph.constant(weights["position_embedding"], "text.positions")
    x = graph.add(graph.node("Gather", table, "tokens", axis=0), positions)
    unseen = np.triu(np.full((length, length), np.finfo(np.float32).min), 1)
    x = _blocks(graph, x, config, weights, tokens=length, name="text", mask=unseen)
    x = graph.layer_norm(x, weights["final_norm"], eps=config.norm_eps, name="text.final_norm")
    ids = graph.node("Cast", "tokens", to=_FLOAT)
    if config.end_token_id is not None:
        found = graph.node("Equal", ids, graph.constant(float(config.end_token_id)))
        ids = graph.node("Cast", found, to=_FLOAT)
    end = graph.node("ArgMax", ids, axis=1, keepdims=1)
    return _projected(graph, graph.node("GatherND", x, end, batch_dims=1), weights, "text")


_FLOAT = 1  # TensorProto.FLOAT


def _blocks(
    graph: GraphBuilder,
    x: str,
    config: ClipTowerConfig,
    weights: Tree,
    *,
    tokens: int,
    name: str,
    mask: np.ndarray | None = None,
) -> str:
    def quick_gelu(y: str) -> str:
        return graph.multiply(y, graph.sigmoid(graph.multiply(y, graph.constant(1.702))))

    for i in range(config.depth):
        x = transformer_block(
            graph,
            x,
            weights[f"blocks_{i}"],
            tokens=tokens,
            channels=config.width,
            num_heads=config.num_heads,
            norm_eps=config.norm_eps,
            activation=quick_gelu if config.activation == "quick_gelu" else graph.gelu,
            name=f"{name}.blocks.{i}",
            mask=mask,
        )
    return x


def _projected(graph: GraphBuilder, x: str, weights: Tree, name: str) -> str:
    kernel = graph.constant(weights["projection"]["kernel"], f"{name}.projection")
    return graph.node("LpNormalization", graph.node("MatMul", x, kernel), axis=-1, p=2)


def _residual(
    graph: GraphBuilder, weights: Tree, image: str, text: str, cosine: str, scales: tuple
) -> tuple[str, str]:
    quality = graph.sigmoid(graph.dense(image, **weights["q_base_head"], name="q_base_head"))
    half = float(weights["c_base_scale"]) / 2.0
    base = graph.multiply(cosine, graph.constant(half))
    base = _clamp(graph, graph.add(base, graph.constant(half + float(weights["c_base_bias"]))))
    fused = graph.node("Concat", image, text, cosine, axis=-1)
    inputs = {"q_delta_head": (quality, image), "c_delta_head": (base, fused)}
    scores = []
    for (name, (estimate, x)), scale in zip(inputs.items(), scales, strict=True):
        delta = graph.node("Tanh", _score(graph, x, weights[name], name))
        delta = graph.multiply(delta, graph.constant(scale))
        scores.append(_clamp(graph, graph.add(estimate, delta)))
    return scores[0], scores[1]


def _traditional(
    graph: GraphBuilder, config: ClipIqaConfig, weights: Tree, image: str, text: str, cosine: str
) -> tuple[str, str]:
    quality = graph.sigmoid(graph.dense(image, **weights["q_head"], name="q_head"))
    fused = graph.node("Concat", image, text, cosine, axis=-1)
    base = graph.sigmoid(_score(graph, fused, weights["c_head"], "c_head"))
    if config.heads.two_branch:
        scaled = graph.multiply(cosine, graph.constant(float(weights["c_scale"])))
        branch = graph.sigmoid(graph.add(scaled, graph.constant(float(weights["c_bias"]))))
        base = graph.multiply(graph.add(base, branch), graph.constant(0.5))
    if not config.heads.refinement:
        return quality, base
    x = graph.node("Concat", image, text, base, axis=-1)
    added = _refinement(graph, x, weights["refinement_module"], config.heads.refinement_layers)
    return quality, _clamp(graph, graph.add(base, added))


def _score(graph: GraphBuilder, x: str, weights: Tree, name: str) -> str:
    if "norm" in weights:
        x = graph.layer_norm(x, weights["norm"], eps=EPS, name=f"{name}.norm")
    layers = sorted(layer for layer in weights if layer.startswith("dense"))
    for layer in layers[:-1]:
        x = graph.gelu(graph.dense(x, **weights[layer], name=f"{name}.{layer}"))
    return graph.dense(x, **weights[layers[-1]], name=f"{name}.{layers[-1]}")


def _refinement(graph: GraphBuilder, x: str, weights: Tree, layers: int) -> str:
    """Attention over its single token is stored as one matrix."""

    def norm(y: str, branch: Tree, name: str) -> str:
        return graph.layer_norm(y, branch, eps=EPS, name=f"refinement.{name}")

    def dense(y: str, branch: Tree, name: str) -> str:
        return graph.dense(y, **branch, name=f"refinement.{name}")

    x = dense(x, weights["input_proj"], "input_proj")
    x = graph.gelu(norm(x, weights["input_norm"], "input_norm"))
    for i in range(layers):
        layer, name = weights[f"layers_{i}"], f"layers.{i}"
        value, out = (layer["self_attn"][part] for part in ("value", "out_proj"))
        kernel = value["kernel"] @ out["kernel"]
        bias = value["bias"] @ out["kernel"] + out["bias"]
        attended = dense(x, {"kernel": kernel, "bias": bias}, f"{name}.self_attn")
        x = norm(graph.add(x, attended), layer["norm1"], f"{name}.norm1")
        y = graph.gelu(dense(x, layer["linear1"], f"{name}.linear1"))
        y = dense(y, layer["linear2"], f"{name}.linear2")
        x = norm(graph.add(x, y), layer["norm2"], f"{name}.norm2")
    x = norm(x, weights["head_norm"], "head_norm")
    x = dense(graph.gelu(dense(x, weights["head1"], "head1")), weights["head2"], "head2")
    scale = graph.constant(float(weights["residual_scale"]))
    return graph.multiply(graph.node("Tanh", x), scale)


def _clamp(graph: GraphBuilder, x: str) -> str:
    return graph.node("Clip", x, graph.constant(0.0), graph.constant(1.0))
