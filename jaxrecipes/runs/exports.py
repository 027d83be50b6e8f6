"""Exports a trained model as a file for other programs: ONNX, StableHLO, or only its weights."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import numpy as np

from jaxrecipes.config import to_dict
from jaxrecipes.convert.safetensors import save_safetensors
from jaxrecipes.export.onnx import onnx_model, save_onnx
from jaxrecipes.export.stablehlo import save_stablehlo
from jaxrecipes.runs.trained import Trained, Weights

Format = Literal["onnx", "stablehlo", "safetensors"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deployed:
    """What the file of a trained model computes, in float32.

    Attributes:
      function: `(variables, inputs) -> outputs`: of `{"params": ..., "batch_stats": ...}` and
        arrays `[B, ...]` by name to arrays `[B, ...]` by name; traceable for any B.
      examples: eight random examples of each input, to check a file with.
      metadata: additional
        strings to store in an ONNX file.
    """

    function: Callable[[Any, dict[str, Any]], dict[str, Any]]
    examples: dict[str, np.ndarray]
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def inputs(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of one example of each input."""
        return {
            name: jax.ShapeDtypeStruct(array.shape[1:], array.dtype)
            for name, array in self.examples.items()
        }


def export(
    trained: Trained, path: pathlib.Path, format: Format, *, weights: Weights, opset: int
) -> str:
    """Writes the file of a trained model; returns a sentence about it."""
    if format == "onnx":
        return export_onnx(trained, path, weights=weights, opset=opset)
    write = export_stablehlo if format == "stablehlo" else export_safetensors
    return write(trained, path, weights=weights)


def export_onnx(trained: Trained, path: pathlib.Path, *, weights: Weights, opset: int) -> str:
    """Writes ONNX, checked in onnxruntime; returns how much it differs from JAX."""
    deployed, variables = trained.module.deployed(trained), _variables(trained, weights)
    model = onnx_model(
        deployed.function,
        variables,
        deployed.inputs,
        opset=opset,
        metadata={**file_metadata(trained), **deployed.metadata},
    )
    predict = jax.jit(lambda inputs: deployed.function(variables, inputs))
    difference = save_onnx(model, path, predict, inputs=deployed.examples)
    outputs = ", ".join(output.name for output in model.graph.output)
    return f"{outputs}: at most {difference:.1e} from JAX in onnxruntime"


def export_stablehlo(trained: Trained, path: pathlib.Path, *, weights: Weights) -> str:
    """Writes StableHLO for CPU, CUDA and TPU.

    It is called with a dict of the inputs and gives one of the outputs; where there is one input
    and one output, with the array itself, and gives the array itself.
    """
    deployed, variables = trained.module.deployed(trained), _variables(trained, weights)
    names = list(deployed.inputs)

    def predict(inputs: Any) -> Any:
        if len(names) > 1:
            return deployed.function(variables, inputs)
        outputs = deployed.function(variables, {names[0]: inputs})
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    example: Any = deployed.inputs if len(names) > 1 else deployed.inputs[names[0]]
    size = save_stablehlo(predict, path, example=example)
    return f"{size} bytes; inputs {', '.join(names)}"


def export_safetensors(trained: Trained, path: pathlib.Path, *, weights: Weights) -> str:
    """Writes the weights as `params/...` and `batch_stats/...`, the config as metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_safetensors(path, _variables(trained, weights), metadata=file_metadata(trained))
    return f"{path.stat().st_size} bytes"


def file_metadata(trained: Trained) -> dict[str, str]:
    """Recipe, step and config, for the metadata of a file."""
    return {
        "recipe": trained.recipe.name,
        "step": str(trained.step),
        "config": json.dumps(to_dict(trained.config)),
    }


def _variables(trained: Trained, weights: Weights) -> dict[str, Any]:
    params, batch_stats = trained.weights(weights)
    return {"params": params, "batch_stats": batch_stats}
