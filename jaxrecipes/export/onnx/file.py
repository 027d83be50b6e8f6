"""Writing an ONNX file, and checking in onnxruntime that it computes what JAX computes."""

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxrecipes.errors import install_command
from jaxrecipes.files import write_bytes

BATCHES = (1, 3, 8)  # batch sizes to check a file with
TOLERANCE = 1e-5

PredictFn = Callable[[Any], Any]
"""A function from an array or arrays by name to an array or arrays by name, all float32 `[B, ...]`;
images are `[B, 3, H, W]`.
"""
Inputs = np.ndarray | Mapping[str, np.ndarray]


def save_onnx(
    model: Any,
    path: str | os.PathLike[str],
    predict_fn: PredictFn,
    *,
    inputs: Inputs | None = None,
    tolerance: float = TOLERANCE,
) -> float:
    """Writes the file after checking in onnxruntime that it computes what `predict_fn` computes.

    Args:
      model: `onnx.ModelProto`, whose inputs and outputs have a dynamic batch as their first axis.
      path: file to write; nothing is written when the check fails.
      predict_fn: the same function in JAX.
      inputs: 8 or more examples for the check, as `predict_fn` takes them; by default random
        numbers in [0, 1], if the file has a single input.
      tolerance: largest allowed difference, see `check_onnx`.

    Returns:
      The largest difference found.

    Raises:
      ImportError: onnxruntime is not installed.
      ValueError: the difference is greater than `tolerance`.
    """
    data = model.SerializeToString()
    if inputs is None:
        sizes = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
        inputs = np.random.default_rng(0).random((max(BATCHES), *sizes[1:]), np.float32)
    difference = check_onnx(data, predict_fn, inputs)
    if not difference <= tolerance:
        raise ValueError(
            f"the ONNX model differs from JAX by {difference:.2e}, more than {tolerance:.0e}; "
            f"{path} was not written. If all weights are finite, this is a bug"
        )
    write_bytes(path, data)
    return difference


def _as_input(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x[: max(BATCHES)], np.int32 if x.dtype.kind == "i" else np.float32)


def check_onnx(
    model: str | os.PathLike[str] | bytes, predict_fn: PredictFn, inputs: Inputs
) -> float:
    """The largest difference between onnxruntime and JAX, over batches of 1, 3 and 8.

    It is absolute, or relative to an output's largest value if that is above 1 (such as degrees).

    Args:
      model: the file, or its content.
      predict_fn: the same function in JAX; if it returns arrays by name, the file's outputs have
        these names.
      inputs: 8 or more examples: an array, or arrays by the names of the file's inputs. Integers
        are passed as int32, everything else as float32.

    Raises:
      ImportError: onnxruntime is not installed.
      ValueError: too few examples, or outputs of a different shape.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f"checking an ONNX file needs onnxruntime: {install_command('export')}"
        ) from error
    inputs = jax.tree.map(_as_input, inputs)
    count = min(len(x) for x in jax.tree.leaves(inputs))
    if count < max(BATCHES):
        raise ValueError(f"expected {max(BATCHES)} examples or more to check with, got {count}")
    # Accelerators round matrix products to TF32 or bfloat16 unless told not to.
    with jax.default_matmul_precision("highest"):
        expected = predict_fn(inputs)
    content = model if isinstance(model, bytes) else pathlib.Path(model).read_bytes()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    feed = inputs if isinstance(inputs, Mapping) else {session.get_inputs()[0].name: inputs}
    wanted = expected if isinstance(expected, dict) else {session.get_outputs()[0].name: expected}
    differences = []
    for size in BATCHES:
        outputs = session.run(list(wanted), {name: x[:size] for name, x in feed.items()})
        for output, (name, array) in zip(outputs, wanted.items(), strict=True):
            want = np.asarray(array)[:size]
            if output.shape != want.shape:
                raise ValueError(f"expected {name} {want.shape}, onnxruntime gave {output.shape}")
            unit = np.maximum(1.0, np.abs(want).max())
            differences.append(np.abs(output - want).max() / unit)
    return float(np.max(differences))  # NaN if any is
