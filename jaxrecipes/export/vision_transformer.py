"""Parts that the graphs of vision transformers share: patches, and pre-norm blocks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxrecipes.export.graph import GraphBuilder

Tree = Mapping[str, Any]


def patch_tokens(
    graph: GraphBuilder,
    image: str,
    kernel: np.ndarray,
    bias: np.ndarray | float = 0.0,
    *,
    count: int,
    mean: Sequence[float],
    std: Sequence[float],
    name: str,
) -> str:
    """Embedded patches of images `[B, 3, S, S]` in [0, 1]: `[B, count, C]`, row by row.

    The normalisation of the pixels becomes part of the weights.

    Args:
      graph: takes the nodes.
      image: the images.
      kernel: `[P, P, 3, C]`, for normalised pixels.
      bias: `[C]`.
      count: patches of an image.
      mean: of each colour, which normalisation takes away.
      std: what it then divides by.
      name: prefix of the stored weights' names.
    """
    kernel = kernel / np.array(std)[:, None]
    shift = np.einsum("hwio,i->o", kernel, np.array(mean))
    x = graph.conv(image, kernel, np.asarray(bias - shift), stride=kernel.shape[0], name=name)
    return graph.transpose(graph.reshape(x, (0, kernel.shape[-1], count)), (0, 2, 1))


def with_first_tokens(
    graph: GraphBuilder, x: str, first: np.ndarray, positions: np.ndarray, *, name: str
) -> str:
    """Patches `[B, N, C]` with positions `[N, C]` added, after constant tokens `first` `[F, C]`."""
    x = graph.node("Pad", x, graph.constant([0, len(first), 0, 0, 0, 0]))
    return graph.add(x, graph.constant(np.concatenate([first, positions]), name))


def transformer_block(
    graph: GraphBuilder,
    x: str,
    weights: Tree,
    *,
    tokens: int,
    channels: int,
    num_heads: int,
    norm_eps: float,
    activation: Callable[[str], str],
    name: str,
    mask: np.ndarray | None = None,
) -> str:
    """`x += self_attn(norm1(x))`, then `x += linear2(activation(linear1(norm2(x))))`.

    Args:
      graph: takes the nodes.
      x: `[B, T, C]`.
      weights: of the parts named above.
      tokens: T.
      channels: C.
      num_heads: must divide C.
      norm_eps: of both LayerNorms.
      activation: adds the nodes between the two linear layers.
      name: prefix of the stored weights' names.
      mask: see `GraphBuilder.attention`.
    """
    y = graph.layer_norm(x, weights["norm1"], eps=norm_eps, name=f"{name}.norm1")
    y = graph.attention(
        y,
        weights["self_attn"],
        tokens=tokens,
        channels=channels,
        num_heads=num_heads,
        name=f"{name}.self_attn",
        mask=mask,
    )
    x = graph.add(x, y)
    y = graph.layer_norm(x, weights["norm2"], eps=norm_eps, name=f"{name}.norm2")
    y = activation(graph.linear(y, **weights["linear1"], name=f"{name}.linear1"))
    return graph.add(x, graph.linear(y, **weights["linear2"], name=f"{name}.linear2"))
