"""Nested trees of arrays in safetensors files."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from jaxrecipes.errors import cause
from jaxrecipes.files import check_content
from jaxrecipes.paths import check_output_file

_MOST_HEADER_BYTES = 25_000_000  # a hundred thousand tensors take 12 million
_FLOAT8 = {
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
}


def save_safetensors(
    path: str | os.PathLike[str],
    tree: Mapping[str, Any],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes a nested dict of arrays under names "a/b/c".

    The library stores the memory of an array whatever its strides, so each is made contiguous.

    Args:
      path: the file to write.
      tree: nested dict with numpy or JAX arrays as leaves.
      metadata: texts to keep beside them.

    Raises:
      ValueError: the path is a folder, a device or a pipe.
    """
    check_output_file(pathlib.Path(path), what="cannot write")
    arrays = {
        name: np.ascontiguousarray(leaf).reshape(np.shape(leaf))
        for name, leaf in flatten_dict(tree, sep="/").items()
    }
    save_file(arrays, path, metadata=dict(metadata) if metadata else None)


def load_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The nested dict of numpy arrays and the metadata of a file of `save_safetensors`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not a safetensors file, damaged, with a dtype that numpy lacks, or with names that
        do not form a tree ("a" beside "a/b").
    """
    check_content(path)
    size = _header_size(path)
    if size > _MOST_HEADER_BYTES:
        raise ValueError(
            f"{path} is no safetensors file, or it is damaged: it declares a header of {size} bytes"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            # The package's file has keys, but is no dict.
            arrays = {name: _tensor(path, file, name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, AttributeError) as error:  # the latter for dtypes that numpy lacks
        raise ValueError(
            f"{path} is no safetensors file, or it is damaged: {cause(error)}"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: {cause(error)}") from error
    for name in arrays:
        parents = name.split("/")[:-1]
        for i in range(1, len(parents) + 1):
            if "/".join(parents[:i]) in arrays:
                raise ValueError(f"{path}: {'/'.join(parents[:i])} and {name} cannot both be there")
    return unflatten_dict(arrays, sep="/"), metadata


def _header_size(path: str | os.PathLike[str]) -> int:
    with open(path, "rb") as stream:
        return int.from_bytes(stream.read(8), "little")


def _tensor(path: str | os.PathLike[str], file: Any, name: str) -> np.ndarray:
    """One tensor; 8-bit floats, which the package cannot convert to numpy, are read by hand."""
    dtype = _FLOAT8.get(file.get_slice(name).get_dtype())
    if dtype is None:
        return file.get_tensor(name)
    with open(path, "rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        entry = json.loads(stream.read(size))[name]
        start, end = entry["data_offsets"]
        stream.seek(8 + size + start)
        return np.frombuffer(stream.read(end - start), dtype).reshape(entry["shape"])
