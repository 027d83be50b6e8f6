"""A trained clip_iqa model as a file: images and token ids to quality and consistency.

`image` is `[batch, 3, S, S]` in [0, 1], `tokens` `[batch, T]` int32, T being the context length;
both scores are `[batch]` in [0, 1].
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxrecipes.data.augment import standardize
from jaxrecipes.export.clip_iqa import clip_iqa_graph
from jaxrecipes.export.onnx_file import save_onnx
from jaxrecipes.export.stablehlo import save_stablehlo
from jaxrecipes.models.clip import IMAGE_MEAN, IMAGE_STD
from jaxrecipes.recipes.clip_iqa.config import IqaRunConfig
from jaxrecipes.recipes.clip_iqa.recipe import SCORES
from jaxrecipes.recipes.trained import Trained, Weights
from jaxrecipes.recipes.weights_file import export_safetensors, file_metadata

__all__ = ["export_onnx", "export_safetensors", "export_stablehlo"]


def export_onnx(trained: Trained, path: pathlib.Path, *, weights: Weights, opset: int) -> str:
    """Writes ONNX, checked in onnxruntime; says by how much it differs from JAX."""
    scales = {
        name: float(trained.hparams[name])
        for name in ("residual_scale_q", "residual_scale_c")
        if name in trained.hparams
    }
    graph = clip_iqa_graph(
        trained.config.network,
        trained.weights(weights)[0],
        opset=opset,
        metadata=file_metadata(trained),
        **scales,
    )
    difference = save_onnx(
        graph, path, predict_fn(trained, weights=weights), inputs=example_inputs(trained.config)
    )
    return f"both scores differ from JAX by at most {difference:.1e} in onnxruntime"


def export_stablehlo(trained: Trained, path: pathlib.Path, *, weights: Weights) -> str:
    """Writes StableHLO for CPU, CUDA and TPU; called with a dict of `image` and `tokens`."""
    shapes = {
        name: jax.ShapeDtypeStruct(array.shape[1:], array.dtype)
        for name, array in example_inputs(trained.config).items()
    }
    size = save_stablehlo(predict_fn(trained, weights=weights), path, example=shapes)
    return f"{size} bytes; inputs {', '.join(shapes)}"


def predict_fn(
    trained: Trained, *, weights: Weights
) -> Callable[[Mapping[str, jax.Array]], dict[str, jax.Array]]:
    """Inputs by name to both scores; jitted, weights closed over.

    Raises:
      ValueError: the model takes embeddings of another network, which a file of it lacks.
    """
    if trained.config.data.image_embeddings:
        raise ValueError(
            "this model was trained on image embeddings (data.image_embeddings), so it takes no "
            "images; scripts/predict.py predicts from a parquet that has them"
        )
    params, batch_stats = trained.weights(weights)
    recipe, hparams = trained.recipe, trained.hparams

    def predict(inputs: Mapping[str, Any]) -> dict[str, jax.Array]:
        image = inputs["image"].transpose(0, 2, 3, 1)
        image = standardize(image, IMAGE_MEAN, IMAGE_STD)
        outputs, _ = recipe.apply_fn(
            params,
            batch_stats,
            {"image": image, "tokens": inputs["tokens"]},
            hparams=hparams,
            train=False,
            key=jax.random.key(0),
        )
        return {name: outputs[name] for name in SCORES}

    return jax.jit(predict)


def example_inputs(config: IqaRunConfig, *, count: int = 8) -> dict[str, np.ndarray]:
    """Made-up examples to check a file with; texts of different lengths."""
    clip, rng = config.clip.architecture, np.random.default_rng(0)
    size, length, highest = (
        clip.vision.image_size,
        clip.text.context_length,
        clip.text.vocab_size - 1,
    )
    end = highest if clip.text.end_token_id is None else clip.text.end_token_id
    tokens = rng.integers(1, highest, (count, length))
    lengths = 2 + np.arange(count) % (length - 1)
    tokens[np.arange(length) >= lengths[:, None]] = 0
    tokens[np.arange(count), lengths - 1] = end
    images = rng.random((count, 3, size, size), np.float32)
    return {"image": images, "tokens": tokens.astype(np.int32)}
