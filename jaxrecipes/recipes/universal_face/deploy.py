"""A trained universal face model as a file: `src` and `pose` to the heads of mode "inference"."""

import pathlib

from jaxrecipes.export.onnx_file import save_onnx
from jaxrecipes.export.stablehlo import save_stablehlo
from jaxrecipes.export.universal_face import input_shapes, predict_fn, universal_face_graph
from jaxrecipes.recipes import face_deploy
from jaxrecipes.recipes.trained import Trained, Weights
from jaxrecipes.recipes.weights_file import export_safetensors, file_metadata

__all__ = ["export_onnx", "export_safetensors", "export_stablehlo"]


def export_onnx(trained: Trained, path: pathlib.Path, *, weights: Weights, opset: int) -> str:
    """Writes ONNX, checked in onnxruntime; says by how much it differs from JAX."""
    config = trained.config.model
    params, batch_stats = trained.weights(weights)
    difference = save_onnx(
        universal_face_graph(
            config,
            params,
            batch_stats=batch_stats,
            opset=opset,
            metadata=file_metadata(trained),
        ),
        path,
        predict_fn(config, params, batch_stats),
        inputs=face_deploy.example_inputs(input_shapes(config)),
    )
    return f"the heads differ from JAX by at most {difference:.1e} in onnxruntime"


def export_stablehlo(trained: Trained, path: pathlib.Path, *, weights: Weights) -> str:
    """Writes StableHLO for CPU, CUDA and TPU; called with a dict of inputs."""
    config = trained.config.model
    predict = predict_fn(config, *trained.weights(weights))
    shapes = input_shapes(config)
    return f"{save_stablehlo(predict, path, example=shapes)} bytes; inputs {', '.join(shapes)}"
