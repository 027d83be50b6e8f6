"""A network with its weights as one StableHLO file that any later JAX runs on CPU, GPU or TPU."""

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import export
from jax import numpy as jnp

from jaxrecipes.files import write_bytes

PLATFORMS = ("cpu", "cuda", "tpu")


def save_stablehlo(
    predict_fn: Callable[[jax.Array], Any],
    path: str | os.PathLike[str],
    *,
    image_size: tuple[int, int],
    platforms: Sequence[str] = PLATFORMS,
) -> int:
    """Writes `predict_fn`, whatever weights it closes over included.

    Args:
      predict_fn: images `[B, 3, H, W]` float32 to arrays, traceable for any B.
      path: file to write.
      image_size: (height, width), fixed in the file; the size of the batch is not.
      platforms: that it is lowered for. Layers that choose their formulation by backend keep the
        choice: each platform gets its own.

    Returns:
      The size of the file in bytes.
    """
    height, width = image_size
    shape = export.symbolic_shape(f"batch, 3, {height}, {width}")
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    exported = export.export(jax.jit(predict_fn), platforms=tuple(platforms))(images)
    data = bytes(exported.serialize())
    write_bytes(path, data)
    return len(data)


def load_stablehlo(path: str | os.PathLike[str]) -> Callable[[Any], Any]:
    """The function in a file of `save_stablehlo`, jitted.

    Raises:
      FileNotFoundError: no such file.
      ValueError: the file is something else, or damaged.
    """
    data = pathlib.Path(path).read_bytes()
    try:
        exported = export.deserialize(bytearray(data))
    except Exception as error:  # the reader raises whatever its bytes lead it into
        raise ValueError(f"{path} is not a StableHLO file of this library: {error}") from error
    return jax.jit(exported.call)
