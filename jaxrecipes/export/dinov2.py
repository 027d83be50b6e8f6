"""DINOv2 as a part of an ONNX graph."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrecipes.export.graph import GraphBuilder
from jaxrecipes.export.vision_transformer import patch_tokens, transformer_block, with_first_tokens
from jaxrecipes.models.dinov2_config import Dinov2Config
from jaxrecipes.models.dinov2_positions import interpolate_positions

Tree = Mapping[str, Any]


def dinov2_states(
    graph: GraphBuilder,
    config: Dinov2Config,
    weights: Tree,
    image: str,
    *,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    name: str = "dinov2",
) -> list[str]:
    """The hidden states `[B, 1 + R + P, C]`, none of them normalised, as `Dinov2` numbers them.

    Args:
      graph: takes the nodes.
      config: the architecture.
      weights: its parameters, float64.
      image: `[B, 3, size, size]` in [0, 1].
      size: pixels.
      mean: of each colour, which normalisation takes away.
      std: what it then divides by.
      name: prefix of the stored weights' names.
    """
    grid = size // config.patch_size
    patches = patch_tokens(
        graph,
        image,
        weights["patch_embedding"]["kernel"],
        weights["patch_embedding"]["bias"],
        count=grid**2,
        mean=mean,
        std=std,
        name=f"{name}.patches",
    )
    table = jnp.asarray(weights["position_embedding"], jnp.float32)
    positions = np.asarray(interpolate_positions(table, grid, config.interpolation), np.float64)
    first = weights["cls_token"] + positions[:1]
    if config.num_registers:
        first = np.concatenate([first, weights["register_tokens"]])
    x = with_first_tokens(graph, patches, first, positions[1:], name=f"{name}.positions")

    def gated(y: str) -> str:
        gate, value = graph.node(
            "Split", y, graph.constant([config.mlp_width] * 2), axis=-1, outputs=2
        )
        return graph.multiply(graph.silu(gate), value)

    states = [x]
    for i in range(config.depth):
        states.append(
            transformer_block(
                graph,
                states[-1],
                _with_layer_scales(weights[f"blocks_{i}"]),
                tokens=len(first) + grid**2,
                channels=config.width,
                num_heads=config.num_heads,
                norm_eps=config.norm_eps,
                activation=gated if config.swiglu else graph.gelu,
                name=f"{name}.blocks.{i}",
            )
        )
    return states


def dinov2_norm(
    graph: GraphBuilder, config: Dinov2Config, weights: Tree, x: str, *, name: str = "dinov2"
) -> str:
    """The last hidden state after the final LayerNorm."""
    return graph.layer_norm(x, weights["norm"], eps=config.norm_eps, name=f"{name}.norm")


def _with_layer_scales(block: Tree) -> Tree:
    """The block's weights with the layer scales in the layers before them."""

    def scaled(linear: Tree, scale: np.ndarray) -> Tree:
        return {part: values * scale for part, values in linear.items()}

    attention = block["self_attn"]
    out = scaled(attention["out_proj"], block["layer_scale1"])
    return {
        **block,
        "self_attn": {**attention, "out_proj": out},
        "linear2": scaled(block["linear2"], block["layer_scale2"]),
    }
