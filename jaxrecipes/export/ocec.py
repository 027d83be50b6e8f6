"""Exports of OCEC: RGB images `[batch, 3, H, W]` in [0, 1] to prob_open `[batch]`."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax import numpy as jnp

from jaxrecipes.export.graph import MIN_OPSET
from jaxrecipes.export.ocec_graph import ocec_graph
from jaxrecipes.export.onnx_file import save_onnx
from jaxrecipes.models.ocec import Ocec, OcecConfig

IDENTITY_MEAN, IDENTITY_STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def ocec_predict_fn(
    config: OcecConfig,
    params: Any,
    batch_stats: Any,
    *,
    mean: Sequence[float] = IDENTITY_MEAN,
    std: Sequence[float] = IDENTITY_STD,
    logit_scale: float = 1.0,
) -> Callable[[jax.Array], jax.Array]:
    """Images `[B, 3, H, W]` in [0, 1] to prob_open `[B]`, float32; jitted, weights closed over.

    Args:
      config: the architecture.
      params: parameters of the network.
      batch_stats: its running statistics.
      mean: of the normalisation, per RGB channel.
      std: of the normalisation.
      logit_scale: 2 for a network trained with `focal_label_smooth_ce`, else 1.
    """
    variables = {"params": params, "batch_stats": batch_stats}

    def predict(images: jax.Array) -> jax.Array:
        images = images.transpose(0, 2, 3, 1)
        images = (images - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)
        logits: Any = Ocec(config).apply(variables, images, train=False)
        return jax.nn.sigmoid(logit_scale * logits)

    return jax.jit(predict)


def export_ocec_onnx(
    config: OcecConfig,
    params: Any,
    batch_stats: Any,
    path: str | os.PathLike[str],
    *,
    image_size: tuple[int, int],
    mean: Sequence[float] = IDENTITY_MEAN,
    std: Sequence[float] = IDENTITY_STD,
    logit_scale: float = 1.0,
    opset: int = MIN_OPSET,
    metadata: Mapping[str, str] | None = None,
) -> float:
    """Writes an ONNX file that onnxruntime has been seen to compute as JAX does, within 1e-5.

    Arguments are those of `jaxrecipes.export.ocec_graph.ocec_graph`, and the file to write.

    Returns:
      The greatest absolute difference in prob_open over batches of 1, 3 and 8 random images.

    Raises:
      ImportError: onnx or onnxruntime is not installed (`pip install 'jaxrecipes[export]'`).
      ValueError: the opset or the image size does not do, or the difference is too great.
    """
    model = ocec_graph(
        config,
        params,
        batch_stats,
        image_size=image_size,
        mean=mean,
        std=std,
        logit_scale=logit_scale,
        opset=opset,
        metadata=metadata,
    )
    predict = ocec_predict_fn(
        config, params, batch_stats, mean=mean, std=std, logit_scale=logit_scale
    )
    return save_onnx(model, path, predict)
