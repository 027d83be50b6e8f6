"""Nested trees of arrays in safetensors files."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from jaxrecipes.paths import check_output_file


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
      ValueError: not a file of safetensors, or damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 no dict
            return unflatten_dict(arrays, sep="/"), file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file, or it is damaged: {error}") from error
