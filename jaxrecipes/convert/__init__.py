"""Weights and training state to and from PyTorch: a safe reader, a writer, rule tables.

`load_torch` and `save_torch` read and write PyTorch's files without PyTorch. `from_torch` and
`to_torch` translate the state dict of one original network; `jaxrecipes.convert.ocec` also its
whole checkpoints, and `jaxrecipes.convert.clip` and `.dinov2` published files and folders.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from flax import linen as nn

from jaxrecipes.convert import clip, clip_iqa, dinov2, face3d, hand_pose, ocec, universal_face
from jaxrecipes.convert.pickles import UnsafeCheckpointError
from jaxrecipes.convert.reader import load_torch
from jaxrecipes.convert.rules import ConversionError
from jaxrecipes.convert.safetensors import load_safetensors, save_safetensors
from jaxrecipes.convert.writer import save_torch
from jaxrecipes.errors import unknown_name

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

_NETWORKS = {
    "clip": clip,
    "clip_iqa": clip_iqa,
    "dinov2": dinov2,
    "face3d": face3d,
    "hand_pose": hand_pose,
    "ocec": ocec,
    "universal_face": universal_face,
}


def _network(name: str) -> ModuleType:
    if name not in _NETWORKS:
        raise unknown_name("network", name, _NETWORKS)
    return _NETWORKS[name]


def from_torch(
    name: str, state_dict: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> tuple[nn.Module, dict[str, Any], dict[str, Any]]:
    """A network and its variables from the original's weights.

    Args:
      name: of the network, such as "ocec".
      state_dict: the original's keys and arrays; a "module." prefix is stripped.
      config: the original's configuration; for "ocec" the fields of `model_config`,
        for "clip" and "dinov2" a `config.json` of Hugging Face.

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
