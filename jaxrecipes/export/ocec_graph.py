"""The OCEC network as an ONNX graph: images `[batch, 3, H, W]` to prob_open `[batch]`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrecipes.export.folding import fold_after, fold_before, weights64
from jaxrecipes.export.graph import MIN_OPSET, GraphBuilder
from jaxrecipes.models.ocec import OcecConfig, check_image_size, feature_size
from jaxrecipes.models.ocec_blocks import NORM_EPS

HEAD_NORM_EPS = 1e-5
TO_NHWC, TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)

Tree = Mapping[str, Any]


def ocec_graph(
    config: OcecConfig,
    params: Tree,
    batch_stats: Tree,
    *,
    image_size: tuple[int, int],
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
    logit_scale: float = 1.0,
    opset: int = MIN_OPSET,
    metadata: Mapping[str, str] | None = None,
) -> Any:
    """Builds the `onnx.ModelProto`; no BatchNormalization node is left in it.

    Args:
      config: the architecture.
      params: parameters of `jaxrecipes.models.ocec.Ocec`.
      batch_stats: its running statistics.
      image_size: (height, width), fixed in the file; the size of the batch is not.
      mean: of the normalisation, per RGB channel; it becomes part of the graph, so that the input
        is an RGB image in [0, 1].
      std: of the normalisation.
      logit_scale: prob_open is `sigmoid(logit_scale * logit)`: 2 for a network trained with
        `focal_label_smooth_ce`, else 1.
      opset: version of ONNX's operators, 17 or newer.
      metadata: further texts to store in the file.

    Raises:
      ImportError: onnx is not installed.
      ValueError: the opset is not supported, or the network cannot take images of that size.
    """
    height, width = image_size
    check_image_size(config, height, width)
    graph = GraphBuilder(opset=opset)
    weights, stats = weights64(params), weights64(batch_stats)
    x = _normalised(graph, "images", mean, std)
    stem, block = {
        "baseline": (_baseline_stem, _baseline_block),
        "inverted_se": (_inverted_stem, _inverted_block),
        "convnext": (_convnext_stem, _convnext_block),
    }[config.arch_variant]
    x = stem(graph, x, weights["stem"], stats.get("stem", {}))
    channels = config.base_channels
    for i, (features, stride) in enumerate(zip(config.channels, config.strides, strict=True)):
        name = f"blocks_{i}"
        residual = stride == 1 and features == channels
        x = block(graph, x, weights[name], stats.get(name, {}), stride, residual, name)
        channels = features
    x = _head(graph, x, config, weights["head"], stats.get("head", {}), image_size, logit_scale)
    prob = graph.node("Squeeze", graph.sigmoid(x), graph.constant([1]))
    facts = {
        "recipe": "ocec",
        "model_config": json.dumps(vars(config)),
        "image_size": json.dumps([height, width]),
        "label_map": json.dumps({"0": "closed", "1": "open"}),
        "normalization": json.dumps({"mean": list(mean), "std": list(std), "in_graph": True}),
        "logit_scale": str(logit_scale),
    }
    return graph.model(
        inputs={"images": ("batch", 3, height, width)},
        outputs={"prob_open": (prob, ("batch",))},
        metadata=facts | dict(metadata or {}),
    )


def _normalised(graph: GraphBuilder, x: str, mean: Sequence[float], std: Sequence[float]) -> str:
    # Not folded into the first convolution: that pads with zeros *after* the normalisation.
    if any(mean):
        x = graph.node("Sub", x, graph.constant(np.reshape(mean, (1, 3, 1, 1)), "mean"))
    if any(value != 1.0 for value in std):
        x = graph.node("Div", x, graph.constant(np.reshape(std, (1, 3, 1, 1)), "std"))
    return x


def _conv_norm(
    graph: GraphBuilder,
    x: str,
    layer: tuple[str, str],
    weights: Tree,
    stats: Tree,
    prefix: str,
    *,
    stride: int = 1,
    padding: int = 0,
) -> str:
    """A convolution without bias and its BatchNorm, as one convolution."""
    conv, norm = layer
    kernel, bias = fold_after(weights[conv]["kernel"], weights[norm], stats[norm])
    return graph.conv(x, kernel, bias, stride=stride, padding=padding, name=f"{prefix}.{conv}")


def _baseline_stem(graph: GraphBuilder, x: str, weights: Tree, stats: Tree) -> str:
    layer = ("conv", "norm")
    return graph.relu(_conv_norm(graph, x, layer, weights, stats, "stem", stride=2, padding=1))


def _baseline_block(
    graph: GraphBuilder, x: str, weights: Tree, stats: Tree, stride: int, residual: bool, name: str
) -> str:
    layer = ("depthwise", "depthwise_norm")
    y = graph.relu(_conv_norm(graph, x, layer, weights, stats, name, stride=stride, padding=1))
    y = _conv_norm(graph, y, ("pointwise", "pointwise_norm"), weights, stats, name)
    return graph.relu(graph.add(y, x) if residual else y)


def _inverted_stem(graph: GraphBuilder, x: str, weights: Tree, stats: Tree) -> str:
    for layer, stride in ((("conv1", "norm1"), 1), (("conv2", "norm2"), 2)):
        y = _conv_norm(graph, x, layer, weights, stats, "stem", stride=stride, padding=1)
        x = graph.silu(y)
    return x


def _inverted_block(
    graph: GraphBuilder, x: str, weights: Tree, stats: Tree, stride: int, residual: bool, name: str
) -> str:
    y = x
    if "expand" in weights:
        y = graph.silu(_conv_norm(graph, y, ("expand", "expand_norm"), weights, stats, name))
    layer = ("depthwise", "depthwise_norm")
    y = graph.silu(_conv_norm(graph, y, layer, weights, stats, name, stride=stride, padding=1))
    if "squeeze_excite" in weights:
        reduce, expand = (weights["squeeze_excite"][part] for part in ("reduce", "expand"))
        gate = graph.global_mean(y)
        gate = graph.conv(gate, reduce["kernel"], reduce["bias"], name=f"{name}.reduce")
        gate = graph.conv(graph.relu(gate), expand["kernel"], expand["bias"], name=f"{name}.expand")
        y = graph.multiply(y, graph.sigmoid(gate))
    y = _conv_norm(graph, y, ("project", "project_norm"), weights, stats, name)
    return graph.silu(graph.add(y, x) if residual else y)


def _channel_norm(graph: GraphBuilder, x: str, params: Tree, name: str) -> str:
    y = graph.layer_norm(graph.transpose(x, TO_NHWC), params, eps=NORM_EPS, name=name)
    return graph.transpose(y, TO_NCHW)


def _convnext_stem(graph: GraphBuilder, x: str, weights: Tree, stats: Tree) -> str:
    conv = weights["conv"]
    y = graph.conv(x, conv["kernel"], conv["bias"], stride=4, name="stem.conv")
    return _channel_norm(graph, y, weights["norm"], "stem.norm")


def _convnext_block(
    graph: GraphBuilder, x: str, weights: Tree, stats: Tree, stride: int, residual: bool, name: str
) -> str:
    if "downsample" in weights:
        conv = weights["downsample"]
        x = _channel_norm(graph, x, weights["downsample_norm"], f"{name}.downsample_norm")
        x = graph.conv(x, conv["kernel"], conv["bias"], stride=stride, name=f"{name}.downsample")
    depthwise, expand, project = (weights[part] for part in ("depthwise", "expand", "project"))
    y = graph.conv(x, depthwise["kernel"], depthwise["bias"], padding=3, name=f"{name}.depthwise")
    y = graph.transpose(y, TO_NHWC)
    y = graph.layer_norm(y, weights["norm"], eps=NORM_EPS, name=f"{name}.norm")
    y = graph.gelu(graph.linear(y, expand["kernel"], expand["bias"], name=f"{name}.expand"))
    gamma = weights["gamma"]
    kernel, bias = project["kernel"] * gamma, project["bias"] * gamma
    y = graph.linear(y, kernel, bias, name=f"{name}.project")
    return graph.add(x, graph.transpose(y, TO_NCHW))


def _head(
    graph: GraphBuilder,
    x: str,
    config: OcecConfig,
    weights: Tree,
    stats: Tree,
    image_size: tuple[int, int],
    logit_scale: float,
) -> str:
    """Scaled logits `[B, 1]`."""
    last = {name: logit_scale * value for name, value in weights["linear"].items()}
    if config.head == "avg":
        x = graph.flatten(graph.global_mean(x))
        folded = fold_before(last["kernel"], last["bias"], weights["norm"], stats["norm"])
        return graph.dense(x, *folded, name="head.linear")
    if config.head == "avgmax_mlp":
        pooled = graph.node("Concat", graph.global_mean(x), graph.global_max(x), axis=1)
        hidden = weights["hidden"]
        folded = fold_before(hidden["kernel"], hidden["bias"], weights["norm"], stats["norm"])
        x = graph.relu(graph.dense(graph.flatten(pooled), *folded, name="head.hidden"))
    else:
        x = _token_mixer(graph, x, config, weights, image_size)
    return graph.dense(x, last["kernel"], last["bias"], name="head.linear")


def _token_mixer(
    graph: GraphBuilder, x: str, config: OcecConfig, weights: Tree, image_size: tuple[int, int]
) -> str:
    rows, cols = config.token_mixer_grid
    height, width = feature_size(config, *image_size)
    tokens, channels = rows * cols, config.channels[-1]
    x = graph.average_pool(x, (height // rows, width // cols))
    x = graph.transpose(graph.reshape(x, (0, channels, tokens)), (0, 2, 1))
    for i in range(config.token_mixer_layers):
        name = f"head.layers_{i}"
        layer = weights[f"layers_{i}"]
        if config.head == "transformer":
            heads = max(n for n in range(1, min(8, channels) + 1) if channels % n == 0)
            y = _norm(graph, x, layer, "norm1", name)
            y = graph.attention(
                y,
                layer["self_attn"],
                tokens=tokens,
                channels=channels,
                num_heads=heads,
                name=f"{name}.self_attn",
            )
            x = graph.add(x, y)
            y = _norm(graph, x, layer, "norm2", name)
            x = graph.add(x, _mlp(graph, y, layer, ("linear1", "linear2"), name))
        else:
            y = graph.transpose(_norm(graph, x, layer, "norm_tokens", name), (0, 2, 1))
            y = _mlp(graph, y, layer, ("token_fc1", "token_fc2"), name)
            x = graph.add(x, graph.transpose(y, (0, 2, 1)))
            y = _norm(graph, x, layer, "norm_channels", name)
            x = graph.add(x, _mlp(graph, y, layer, ("channel_fc1", "channel_fc2"), name))
    return _norm(graph, graph.mean(x, 1), weights, "final_norm", "head")


def _norm(graph: GraphBuilder, x: str, weights: Tree, norm: str, prefix: str) -> str:
    return graph.layer_norm(x, weights[norm], eps=HEAD_NORM_EPS, name=f"{prefix}.{norm}")


def _mlp(graph: GraphBuilder, x: str, weights: Tree, names: tuple[str, str], prefix: str) -> str:
    first, second = (weights[name] for name in names)
    y = graph.gelu(graph.linear(x, first["kernel"], first["bias"], name=f"{prefix}.{names[0]}"))
    return graph.linear(y, second["kernel"], second["bias"], name=f"{prefix}.{names[1]}")
