"""Writing an ONNX file, and checking in onnxruntime that it computes what JAX computes."""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxrecipes.files import write_bytes

BATCHES = (1, 3, 8)  # sizes that a file with a dynamic batch is checked with
TOLERANCE = 1e-5

PredictFn = Callable[[Any], Any]  # images [B, 3, H, W] float32 -> [B]


def save_onnx(
    model: Any,
    path: str | os.PathLike[str],
    predict_fn: PredictFn,
    *,
    images: np.ndarray | None = None,
    tolerance: float = TOLERANCE,
) -> float:
    """Writes the file after it has been run in onnxruntime and found equal to `predict_fn`.

    Args:
      model: `onnx.ModelProto` with one input `[batch, 3, H, W]` and one output `[batch]`.
      path: file to write; nothing is written when the check fails.
      predict_fn: the same function in JAX.
      images: `[N, 3, H, W]` float32 to check with, 8 or more; random ones in [0, 1] by default.
      tolerance: greatest absolute difference allowed.

    Returns:
      The greatest absolute difference found.

    Raises:
      ImportError: onnxruntime is not installed.
      ValueError: the difference is greater than `tolerance`.
    """
    data = model.SerializeToString()
    if images is None:
        sizes = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
        images = np.random.default_rng(0).random((max(BATCHES), *sizes[1:]), np.float32)
    difference = check_onnx(data, predict_fn, images)
    if not difference <= tolerance:
        raise ValueError(
            f"the ONNX model differs from JAX by {difference:.2e}, more than {tolerance:.0e}; "
            f"{path} was not written. Weights that are not finite do this; otherwise it is a bug"
        )
    write_bytes(path, data)
    return difference


def check_onnx(
    model: str | os.PathLike[str] | bytes, predict_fn: PredictFn, images: np.ndarray
) -> float:
    """Greatest absolute difference between onnxruntime and JAX, over batches of 1, 3 and 8.

    Args:
      model: the file, or its content.
      predict_fn: the same function in JAX, images as the file takes them.
      images: `[N, 3, H, W]` float32, N of 8 or more.

    Raises:
      ImportError: onnxruntime is not installed.
      ValueError: too few images.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            "checking an ONNX file needs onnxruntime: pip install 'jaxrecipes[export]'"
        ) from error
    if len(images) < max(BATCHES):
        raise ValueError(f"want {max(BATCHES)} images or more to check with, got {len(images)}")
    images = np.ascontiguousarray(images[: max(BATCHES)], np.float32)
    # Accelerators round matrix products to TF32 or bfloat16 unless told not to.
    with jax.default_matmul_precision("highest"):
        expected = np.asarray(predict_fn(images))
    content = model if isinstance(model, bytes) else pathlib.Path(model).read_bytes()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (source,) = (tensor.name for tensor in session.get_inputs())
    differences = []
    for size in BATCHES:
        (output,) = session.run(None, {source: images[:size]})
        if output.shape != expected[:size].shape:
            raise ValueError(
                f"want output {expected[:size].shape}, onnxruntime gave {output.shape}"
            )
        differences.append(np.abs(output - expected[:size]).max())
    return float(np.max(differences))  # NaN if any is
