"""Weights of the original hand_pose network, both ways, without PyTorch.

The original's `model.safetensors` also holds its hand, MANO, twice. Its licence forbids to pass it
on, so our files of weights are without; `hand_model` takes it out of a file for the user's own use,
and `to_torch` and `write_hand_pose` put one back where the user gives it.
"""

import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxrecipes.convert.file_fields import naming, telling
from jaxrecipes.convert.rules import ConversionError, dump_tensors, load_tensors, unwrapped
from jaxrecipes.convert.safetensors import save_safetensors
from jaxrecipes.convert.weight_files import read_state_dict
from jaxrecipes.models.hand.model import HandModel
from jaxrecipes.paths import user_path
from jaxrecipes.recipes.hand_pose.network import HandPose, hand_inputs
from jaxrecipes.recipes.hand_pose.network_config import HandPoseConfig
from jaxrecipes.recipes.hand_pose.original_config import network_config
from jaxrecipes.recipes.hand_pose.original_hand import hand_tensors, without_hand
from jaxrecipes.recipes.hand_pose.original_rules import hand_pose_buffers, hand_pose_rules

_QUERY = "handec.init_hand_pose"
_REFINER = "temporal_refiner."
_TOLERANCE = 1e-4


def read_hand_pose(
    path: str | os.PathLike[str],
    config: Mapping[str, Any] | HandPoseConfig | None = None,
    *,
    use_torch: bool = False,
) -> tuple[HandPoseConfig, dict[str, Any], dict[str, Any]]:
    """(config, params, batch_stats) of a checkpoint of the original.

    Args:
      path: its `model.safetensors`, a file of `torch.save`, or the folder `checkpoint-STEP`.
      config: as in `from_torch`.
      use_torch: see `load_torch`.

    Raises:
      FileNotFoundError: there is no such file.
      As `from_torch`.
    """
    path = user_path(path)
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.exists():
        raise FileNotFoundError(
            f"{file} does not exist; weights of the original are the file model.safetensors in a "
            "folder checkpoint-STEP of a run"
        )
    with naming(file):
        state_dict = read_state_dict(file, use_torch=use_torch)
        model, params, batch_stats = from_torch(state_dict, config or {})
    return model.config, params, batch_stats


def write_hand_pose(
    file: str | os.PathLike[str],
    config: HandPoseConfig,
    params: Mapping[str, Any],
    batch_stats: Mapping[str, Any],
    *,
    hand: HandModel | None = None,
) -> None:
    """Writes `model.safetensors` as the original has it.

    Args:
      file: to write.
      config: of the network.
      params: its parameters.
      batch_stats: its statistics, empty for most.
      hand: the user's own MANO; with it the file is complete, without it the original loads the
        file with `strict=False` and keeps the hand that it was built with.

    Raises:
      ConversionError: variables that are not those of `config`.
    """
    state_dict = to_torch(params, batch_stats, config)
    if hand is not None:
        state_dict |= hand_tensors(hand)
        state_dict |= {
            key.replace("handec.deccam.", "loss_fn."): array
            for key, array in state_dict.items()
            if key.endswith("_centers")
        }
    save_safetensors(file, state_dict, metadata={"format": "pt"})


def from_torch(
    state_dict: Mapping[str, np.ndarray], config: Mapping[str, Any] | HandPoseConfig
) -> tuple[HandPose, dict[str, Any], dict[str, Any]]:
    """(model, params, batch_stats) of a state dict of the original; see `jaxrecipes.convert`.

    MANO's arrays and the loss's are left out, and the refiner's unless `config` is of stage 2.

    Args:
      state_dict: the original's, with the arrays of its loss object or without.
      config: a `HandPoseConfig`, or the original's configuration, whole or its part MODEL. Nothing
        of it is needed that the shapes tell; they do not tell the numbers of heads, for which
        64 channels each are taken (16 heads in the refiner), and whether this is stage 2.

    Raises:
      ConversionError: also for weights whose bins, rays or image statistics are not those of
        `config`.
    """
    state_dict = without_hand(unwrapped(state_dict))
    if not isinstance(config, HandPoseConfig):
        with telling("the architecture"):
            config = network_config(state_dict, config)
    buffers = hand_pose_buffers(config)
    _check_buffers(buffers, state_dict)
    kept = {
        key: array
        for key, array in state_dict.items()
        if key not in buffers and (config.temporal is not None or not key.startswith(_REFINER))
    }
    if _QUERY in kept:
        kept[_QUERY] = np.reshape(kept[_QUERY], (1, -1))
    variables = load_tensors(hand_pose_rules(config), kept, template(config))
    return HandPose(config), variables["params"], variables.get("batch_stats", {})


def to_torch(
    params: Mapping[str, Any],
    batch_stats: Mapping[str, Any],
    config: Mapping[str, Any] | HandPoseConfig,
) -> dict[str, np.ndarray]:
    """The original's state dict without its hand; see `jaxrecipes.convert`.

    Raises:
      ValueError: also for a `config` that is no `HandPoseConfig`, which the sizes are told by.
    """
    if not isinstance(config, HandPoseConfig):
        raise ValueError(
            "hand_pose needs a HandPoseConfig to write weights, such as that of the model that "
            f"from_torch gives; got {type(config).__name__}"
        )
    variables = {"params": params} | ({"batch_stats": batch_stats} if batch_stats else {})
    state_dict = dump_tensors(hand_pose_rules(config), variables) | hand_pose_buffers(config)
    if config.joint_type == "6d" and config.handec.use_mean_init is not None:
        state_dict[_QUERY] = state_dict[_QUERY][0]
    return state_dict


def template(config: HandPoseConfig) -> dict[str, Any]:
    """Shapes and dtypes of the variables."""
    network, inputs = HandPose(config), hand_inputs(config)
    shapes = jax.eval_shape(
        lambda key, x: network.init(key, x, train=False), jax.random.key(0), inputs
    )
    return shapes


def _check_buffers(buffers: Mapping[str, np.ndarray], state_dict: Mapping[str, np.ndarray]) -> None:
    """Compares the original's buffers, where they are, with what the configuration implies."""
    wrong = []
    for key, want in buffers.items():
        got = np.asarray(state_dict.get(key, want))
        if got.shape != want.shape:
            wrong.append(f"{key}: expected the shape {want.shape}, got {got.shape}")
        elif np.abs(got - want).max() > _TOLERANCE * np.abs(want).max():
            wrong.append(f"{key}: expected {want.ravel()[0]} first, got {got.ravel()[0]}")
    if wrong:
        raise ConversionError(
            "the weights were trained with other constants than the configuration has: "
            + "; ".join(wrong)
        )
