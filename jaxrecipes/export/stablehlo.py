"""A network and its weights in one StableHLO file, which later versions of JAX run on CPU, GPU or
TPU.
"""

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax import export
from jax import numpy as jnp

from jaxrecipes.files import write_bytes

PLATFORMS = ("cpu", "cuda", "tpu")


def save_stablehlo(
    predict_fn: Callable[[Any], Any],
    path: str | os.PathLike[str],
    *,
    example: tuple[int, ...] | Mapping[str, tuple[int, ...] | jax.ShapeDtypeStruct],
    platforms: Sequence[str] = PLATFORMS,
) -> int:
    """Writes `predict_fn`, including the weights that it closes over.

    Args:
      predict_fn: float32 `[B, *example]`, or a dict of such by name, to arrays; traceable for any
        B.
      path: file to write.
      example: shape of one example, such as (3, height, width); or shapes by name, with a dtype if
        that is not float32. They are fixed in the file, but the batch size is not.
      platforms: what it is lowered for. Layers that choose their formulation by platform still do:
        each platform gets its own.

    Returns:
      The size of the file in bytes.
    """
    (batch,) = export.symbolic_shape("batch")

    def batched(one: tuple[int, ...] | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        if isinstance(one, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct((batch, *one.shape), one.dtype)
        return jax.ShapeDtypeStruct((batch, *one), jnp.float32)

    inputs = (
        {name: batched(shape) for name, shape in example.items()}
        if isinstance(example, Mapping)
        else batched(example)
    )
    exported = export.export(jax.jit(predict_fn), platforms=tuple(platforms))(inputs)
    data = bytes(exported.serialize())
    write_bytes(path, data)
    return len(data)


def load_stablehlo(path: str | os.PathLike[str]) -> Callable[[Any], Any]:
    """The function stored by `save_stablehlo`, jitted.

    Raises:
      FileNotFoundError: no such file.
      ValueError: the file is something else, or damaged.
    """
    data = pathlib.Path(path).read_bytes()
    try:
        exported = export.deserialize(bytearray(data))
    except Exception as error:  # the reader may raise anything
        raise ValueError(f"{path} is not a StableHLO file of this library: {error}") from error
    return jax.jit(exported.call)
