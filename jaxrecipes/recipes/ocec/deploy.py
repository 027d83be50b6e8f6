"""A trained OCEC model as a file for deployment: images `[batch, 3, H, W]` in [0, 1] to
prob_open.
"""

import pathlib

from jaxrecipes.export.ocec import export_ocec_onnx, ocec_predict_fn
from jaxrecipes.export.stablehlo import save_stablehlo
from jaxrecipes.recipes.ocec.recipe import logit_scale
from jaxrecipes.recipes.trained import Trained, Weights
from jaxrecipes.recipes.weights_file import export_safetensors, file_metadata

__all__ = ["export_onnx", "export_safetensors", "export_stablehlo"]


def export_onnx(trained: Trained, path: pathlib.Path, *, weights: Weights, opset: int) -> str:
    """Writes ONNX, checked in onnxruntime; says by how much it differs from JAX."""
    config = trained.config
    params, batch_stats = trained.weights(weights)
    difference = export_ocec_onnx(
        config.model,
        params,
        batch_stats,
        path,
        image_size=config.data.image_size,
        mean=config.data.mean,
        std=config.data.std,
        logit_scale=logit_scale(config),
        opset=opset,
        metadata=file_metadata(trained),
    )
    return f"prob_open differs from JAX by at most {difference:.1e} in onnxruntime"


def export_stablehlo(trained: Trained, path: pathlib.Path, *, weights: Weights) -> str:
    """Writes StableHLO for CPU, CUDA and TPU."""
    config = trained.config
    predict = ocec_predict_fn(
        config.model,
        *trained.weights(weights),
        mean=config.data.mean,
        std=config.data.std,
        logit_scale=logit_scale(config),
    )
    return f"{save_stablehlo(predict, path, example=(3, *config.data.image_size))} bytes"
