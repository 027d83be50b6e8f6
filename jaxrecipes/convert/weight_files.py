"""Files of weights as others publish them: one file or several with an index, JSON beside them."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrecipes.convert.file_fields import Fields
from jaxrecipes.convert.reader import load_torch
from jaxrecipes.convert.rules import ConversionError, described, unwrapped
from jaxrecipes.convert.safetensors import load_safetensors
from jaxrecipes.convert.torchscript import is_torchscript, load_torchscript
from jaxrecipes.errors import cause
from jaxrecipes.files import check_content


def read_state_dict(
    file: pathlib.Path, *, within: Sequence[str] = ("state_dict",), use_torch: bool = False
) -> dict[str, np.ndarray]:
    """Names and arrays of a file: safetensors, `torch.save`, or a TorchScript archive.

    Args:
      file: to read; safetensors are known by their suffix.
      within: keys under which training programs keep the state dict, where it is not alone.
      use_torch: see `load_torch`.

    Raises:
      ValueError: a damaged file, or one that holds other things than tensors.
    """
    try:
        if file.suffix == ".safetensors":
            return unwrapped(load_safetensors(file)[0])
        if is_torchscript(file):
            return unwrapped(load_torchscript(file))
        loaded = load_torch(file, use_torch=use_torch)
        if isinstance(loaded, dict):
            loaded = next((loaded[key] for key in within if key in loaded), loaded)
        state_dict = unwrapped(loaded)
    except ConversionError as error:
        raise ConversionError(f"{file}: {error}") from error
    for key, value in state_dict.items():
        if not isinstance(value, np.ndarray):
            raise ValueError(
                f"{file} is not a state dict: expected names and tensors alone, got "
                f"{described(value)} "
                f"at {key!r}"
            )
    return state_dict


def read_weights(
    folder: pathlib.Path, names: Sequence[str], *, use_torch: bool = False
) -> dict[str, np.ndarray] | None:
    """The first of `names` in a folder, whole or in parts with an index; None if none is there."""
    for name in names:
        index = folder / f"{name}.index.json"
        if (folder / name).exists():
            return read_state_dict(folder / name, use_torch=use_torch)
        if index.exists():
            state_dict: dict[str, np.ndarray] = {}
            parts = Fields(read_json(index), f"{index}:").get("weight_map", dict[str, str])
            for part in sorted(set(parts.values())):
                state_dict |= read_state_dict(folder / part, use_torch=use_torch)
            return state_dict
    return None


def read_json(file: pathlib.Path) -> dict[str, Any]:
    """The object in a file of JSON.

    Raises:
      ValueError: not JSON, or not an object.
    """
    check_content(file)
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON: {cause(error)}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{file} holds a {type(value).__name__}; expected an object of JSON")
    return value
