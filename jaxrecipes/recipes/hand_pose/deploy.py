"""A trained hand_pose model as a file: crops and their cameras to hands.

`patch` is `[batch, 3, S, S]` in [0, 1], a right hand's crop; `patch_bbox` `[batch, 4]` (x1, y1, x2,
y2), `focal` and `princpt` `[batch, 2]` are in pixels of the image that it is from. What comes out:
`pose` `[batch, 16 * numbers of a rotation]`, `betas` `[batch, 10]` and `trans` `[batch, 3]`.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipes.data.augment import standardize
from jaxrecipes.export.hand_pose import hand_pose_graph
from jaxrecipes.export.onnx_file import save_onnx
from jaxrecipes.export.stablehlo import save_stablehlo
from jaxrecipes.recipes.hand_pose.config import HandRunConfig
from jaxrecipes.recipes.trained import Trained, Weights
from jaxrecipes.recipes.weights_file import export_safetensors, file_metadata

__all__ = ["export_onnx", "export_safetensors", "export_stablehlo"]

_OUTPUTS = ("pose", "betas", "trans")
_CAMERA = ("patch_bbox", "focal", "princpt")


def export_onnx(trained: Trained, path: pathlib.Path, *, weights: Weights, opset: int) -> str:
    """Writes ONNX, checked in onnxruntime; says by how much it differs from JAX."""
    _check_single_frame(trained.config)
    graph = hand_pose_graph(
        trained.config.network,
        *trained.weights(weights),
        opset=opset,
        metadata=file_metadata(trained),
    )
    difference = save_onnx(
        graph, path, predict_fn(trained, weights=weights), inputs=example_inputs(trained.config)
    )
    return f"pose, shape and root differ from JAX by at most {difference:.1e} in onnxruntime"


def export_stablehlo(trained: Trained, path: pathlib.Path, *, weights: Weights) -> str:
    """Writes StableHLO for CPU, CUDA and TPU; called with a dict of the inputs."""
    _check_single_frame(trained.config)
    shapes = {
        name: jax.ShapeDtypeStruct(array.shape[1:], array.dtype)
        for name, array in example_inputs(trained.config).items()
    }
    size = save_stablehlo(predict_fn(trained, weights=weights), path, example=shapes)
    return f"{size} bytes; inputs {', '.join(shapes)}"


def predict_fn(
    trained: Trained, *, weights: Weights
) -> Callable[[Mapping[str, jax.Array]], dict[str, jax.Array]]:
    """Inputs by name to the hands; jitted, weights closed over."""
    params, batch_stats = trained.weights(weights)
    recipe, hparams, network = trained.recipe, trained.hparams, trained.config.network

    def predict(inputs: Mapping[str, Any]) -> dict[str, jax.Array]:
        patch = inputs["patch"].transpose(0, 2, 3, 1)
        patch = standardize(patch, network.img_mean, network.img_std)
        frames = {"patch": patch} | {name: inputs[name] for name in _CAMERA}
        frames["timestamp"] = jnp.zeros(len(patch), jnp.float32)
        outputs, _ = recipe.apply_fn(
            params,
            batch_stats,
            {name: array[:, None] for name, array in frames.items()},
            hparams=hparams,
            train=False,
            key=jax.random.key(0),
        )
        return {name: outputs[name][:, 0] for name in _OUTPUTS}

    return jax.jit(predict)


def example_inputs(config: HandRunConfig, *, count: int = 8) -> dict[str, np.ndarray]:
    """Made-up crops of a camera to check a file with."""
    size, rng = config.network.img_size, np.random.default_rng(0)
    corner = rng.uniform(0.0, 200.0, (count, 2))
    inputs = {
        "patch": rng.random((count, 3, size, size)),
        "patch_bbox": np.concatenate([corner, corner + rng.uniform(80, 200, (count, 1))], axis=1),
        "focal": rng.uniform(400.0, 600.0, (count, 2)),
        "princpt": rng.uniform(150.0, 250.0, (count, 2)),
    }
    return {name: array.astype(np.float32) for name, array in inputs.items()}


def _check_single_frame(config: HandRunConfig) -> None:
    if config.network.temporal is not None or config.network.num_frame != 1:
        raise ValueError(
            "files are written of networks that see one frame; this one sees clips of "
            f"{config.network.num_frame}. Its weights alone can be written: --format safetensors"
        )
