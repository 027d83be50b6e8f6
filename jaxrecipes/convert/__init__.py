"""Weights and training state to and from PyTorch: a safe reader, a writer, rule tables.

`load_torch` and `save_torch` read and write PyTorch's files without PyTorch. `from_torch` and
`to_torch` translate the state dict of one original network, or of a published one, by its name.
"""

import importlib
import importlib.resources
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from flax import linen as nn

from jaxrecipes.convert.pickles import UnsafeCheckpointError
from jaxrecipes.convert.reader import load_torch
from jaxrecipes.convert.rules import ConversionError
from jaxrecipes.convert.safetensors import load_safetensors, save_safetensors
from jaxrecipes.convert.writer import save_torch
from jaxrecipes.errors import named

__all__ = [
    "ConversionError",
    "UnsafeCheckpointError",
    "from_torch",
    "load_safetensors",
    "load_torch",
    "save_safetensors",
    "save_torch",
    "to_torch",
]


def _network(name: str) -> ModuleType:
    places = {"recipes": "original", "models": "weights"}
    found = {
        folder.name: f"jaxrecipes.{room}.{folder.name}.{file}"
        for room, file in places.items()
        for folder in importlib.resources.files(f"jaxrecipes.{room}").iterdir()
        if folder.joinpath(f"{file}.py").is_file()
    }
    return importlib.import_module(named("network", name, found))


def from_torch(
    name: str, state_dict: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> tuple[nn.Module, dict[str, Any], dict[str, Any]]:
    """A network and its variables from the original's weights.

    Args:
      name: of the network, a recipe's, or "clip", "dinov2" ... of `jaxrecipes.models`.
      state_dict: the original's keys and arrays; a "module." prefix is stripped.
      config: the original's configuration; of a recipe what its checkpoints hold,
        of a published network a `config.json` of Hugging Face.

    Returns:
      (model, params, batch_stats), the last two nested dicts of numpy arrays.

    Raises:
      ConversionError: missing, unexpected or wrongly shaped tensors; names the first of each kind.
      ValueError: an unknown network or configuration field (names the nearest).
    """
    return _network(name).from_torch(state_dict, config)


def to_torch(
    name: str,
    params: Mapping[str, Any],
    batch_stats: Mapping[str, Any],
    config: Mapping[str, Any],
) -> dict[str, np.ndarray]:
    """The original's state dict, exact to the bit; the inverse of `from_torch`.

    Returns:
      The original's keys, in its order, with contiguous numpy arrays in its shapes and dtypes.

    Raises:
      ConversionError: variables that do not fit the configuration; names the first of each kind.
      ValueError: an unknown network or configuration field (names the nearest).
    """
    return _network(name).to_torch(params, batch_stats, config)
