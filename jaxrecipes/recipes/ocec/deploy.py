"""A trained OCEC model as a file for deployment: images `[batch, 3, H, W]` in [0, 1] to
prob_open.
"""

import json
import pathlib

from jaxrecipes.config import to_dict
from jaxrecipes.convert.safetensors import save_safetensors
from jaxrecipes.export.ocec import export_ocec_onnx, ocec_predict_fn
from jaxrecipes.export.stablehlo import save_stablehlo
from jaxrecipes.recipes.ocec.recipe import logit_scale
from jaxrecipes.recipes.trained import Trained, Weights


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
        metadata=_metadata(trained),
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
    return f"{save_stablehlo(predict, path, image_size=config.data.image_size)} bytes"


def export_safetensors(trained: Trained, path: pathlib.Path, *, weights: Weights) -> str:
    """Writes the weights as `params/...` and `batch_stats/...`, the config as metadata."""
    params, batch_stats = trained.weights(weights)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_safetensors(
        path, {"params": params, "batch_stats": batch_stats}, metadata=_metadata(trained)
    )
    return f"{path.stat().st_size} bytes"


def _metadata(trained: Trained) -> dict[str, str]:
    return {
        "recipe": trained.recipe.name,
        "step": str(trained.step),
        "config": json.dumps(to_dict(trained.config)),
    }
