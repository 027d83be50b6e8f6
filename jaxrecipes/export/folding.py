"""BatchNorm in evaluation is an affine map; here it is merged into the layer before or after it.

In float64, as the merged weights are rounded once, when they are stored.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

EPS = 1e-5  # of every BatchNorm, as in torch


def weights64(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The same nested dict with float64 numpy arrays as leaves."""
    return {
        name: weights64(leaf) if isinstance(leaf, Mapping) else np.asarray(leaf, np.float64)
        for name, leaf in tree.items()
    }


def batch_norm_affine(
    params: Mapping[str, np.ndarray], stats: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """`(factor, shift)`, `[C]` each, with `batch_norm(x) = x * factor + shift`."""
    factor = params["scale"] / np.sqrt(stats["var"] + EPS)
    return factor, params["bias"] - stats["mean"] * factor


def fold_after(
    kernel: np.ndarray,
    params: Mapping[str, np.ndarray],
    stats: Mapping[str, np.ndarray],
    *,
    bias: np.ndarray | float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel `[..., C]` and bias `[C]` of a layer followed by a BatchNorm.

    Any layer whose kernel has its outputs on the last axis: convolution, depthwise, linear.
    """
    factor, shift = batch_norm_affine(params, stats)
    return kernel * factor, bias * factor + shift


def fold_before(
    kernel: np.ndarray,
    bias: np.ndarray,
    params: Mapping[str, np.ndarray],
    stats: Mapping[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel `[C, F]` and bias `[F]` of a BatchNorm followed by a linear layer."""
    factor, shift = batch_norm_affine(params, stats)
    return factor[:, None] * kernel, bias + shift @ kernel
