"""What the face recipes share to write a trained model as a file: inputs are float32 by name."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxrecipes.export.stablehlo import save_stablehlo
from jaxrecipes.recipes.trained import Trained, Weights

EmbeddingShapes = Mapping[str, tuple[int, ...]]
"""Shape of one example of each input of a network."""


def predict_fn(trained: Trained, *, weights: Weights) -> Callable[[dict[str, Any]], Any]:
    """Inputs by name, `[B, ...]`, to what the network gives in evaluation; jitted, weights closed
    over.
    """
    params, batch_stats = trained.weights(weights)
    recipe, hparams = trained.recipe, trained.hparams

    def predict(inputs: dict[str, jax.Array]) -> Any:
        outputs, _ = recipe.apply_fn(
            params, batch_stats, inputs, hparams=hparams, train=False, key=jax.random.key(0)
        )
        return outputs

    return jax.jit(predict)


def example_inputs(shapes: EmbeddingShapes, *, count: int = 8) -> dict[str, np.ndarray]:
    """Made-up examples to check a file with: unit embeddings, poses in degrees, keypoints."""
    rng = np.random.default_rng(0)

    def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
        array = rng.normal(size=(count, *shape))
        if name == "pose":
            array *= 30.0
        elif name == "src":
            array /= np.linalg.norm(array, axis=-1, keepdims=True)
        return array.astype(np.float32)

    return {name: draw(name, shape) for name, shape in shapes.items()}


def export_stablehlo(
    trained: Trained, path: pathlib.Path, *, weights: Weights, shapes: EmbeddingShapes
) -> str:
    """Writes StableHLO for CPU, CUDA and TPU; called with a dict of inputs."""
    size = save_stablehlo(predict_fn(trained, weights=weights), path, example=shapes)
    return f"{size} bytes; inputs {', '.join(shapes)}"
