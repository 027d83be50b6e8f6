"""A trained face3d model as a file: `src`, `pose` (and `keypoints_3d`) to the frontal embedding."""

import pathlib

import jax

from jaxrecipes.export.face3d import face3d_graph, input_shapes
from jaxrecipes.export.onnx_file import save_onnx
from jaxrecipes.models.face3d import face3d
from jaxrecipes.recipes import face_deploy
from jaxrecipes.recipes.trained import Trained, Weights
from jaxrecipes.recipes.weights_file import export_safetensors, file_metadata

__all__ = ["export_onnx", "export_safetensors", "export_stablehlo"]


def export_onnx(trained: Trained, path: pathlib.Path, *, weights: Weights, opset: int) -> str:
    """Writes ONNX, checked in onnxruntime; says by how much it differs from JAX."""
    config = trained.config.model
    params, batch_stats = trained.weights(weights)
    variables = {"params": params, "batch_stats": batch_stats}
    network = face3d(config)
    difference = save_onnx(
        face3d_graph(config, params, batch_stats, opset=opset, metadata=file_metadata(trained)),
        path,
        jax.jit(lambda inputs: {"frontal": network.apply(variables, inputs, train=False)}),
        inputs=face_deploy.example_inputs(input_shapes(config)),
    )
    return f"the frontal embedding differs from JAX by at most {difference:.1e} in onnxruntime"


def export_stablehlo(trained: Trained, path: pathlib.Path, *, weights: Weights) -> str:
    """Writes StableHLO for CPU, CUDA and TPU; called with a dict of inputs."""
    shapes = input_shapes(trained.config.model)
    return face_deploy.export_stablehlo(trained, path, weights=weights, shapes=shapes)
