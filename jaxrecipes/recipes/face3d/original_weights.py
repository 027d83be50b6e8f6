"""Weights of the original face3d networks, both ways, without PyTorch."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxrecipes.convert.packed_attention import packed, split
from jaxrecipes.convert.rules import dump_tensors, load_tensors, parameter_rules, unwrapped
from jaxrecipes.convert.torch_optim import AdamState, adam_from_torch, adam_to_torch
from jaxrecipes.recipes.face3d.network import face3d, face3d_shapes
from jaxrecipes.recipes.face3d.network_config import Face3DConfig
from jaxrecipes.recipes.face3d.original_rules import face3d_rules
from jaxrecipes.recipes.faces.pose_text_weights import tabulated, text_width


def from_torch(
    state_dict: Mapping[str, np.ndarray], config: Mapping[str, Any] | Face3DConfig
) -> tuple[nn.Module, dict[str, Any], dict[str, Any]]:
    """(model, params, batch_stats) of a state dict of the original; see `jaxrecipes.convert`.

    Of the original's arguments, those that describe the network count; whether it is the keypoint
    decoder is read off the weights. A copy of CLIP becomes a table, see
    `jaxrecipes.recipes.faces.pose_text_weights`.
    """
    state_dict = tabulated(unwrapped(state_dict))
    config = original_config(config, state_dict)
    variables = load_tensors(face3d_rules(config), state_dict, _template(config))
    variables = split(variables)
    return face3d(config), variables["params"], variables.get("batch_stats", {})


def to_torch(
    params: Mapping[str, Any],
    batch_stats: Mapping[str, Any],
    config: Mapping[str, Any] | Face3DConfig,
) -> dict[str, np.ndarray]:
    """The original's state dict, its keys in its order; see `jaxrecipes.convert`."""
    variables = {"params": params} | ({"batch_stats": batch_stats} if batch_stats else {})
    return dump_tensors(face3d_rules(network_config(config, params)), packed(variables))


def adam_moments_from_torch(
    optimizer_state: Mapping[str, Any], config: Face3DConfig
) -> AdamState | None:
    """AdamW's state with moments as trees like our params; None before the first update."""
    adam = adam_from_torch(
        optimizer_state, parameter_rules(face3d_rules(config)), _template(config)["params"]
    )
    return adam and dataclasses.replace(adam, mu=split(adam.mu), nu=split(adam.nu))


def adam_moments_to_torch(adam: AdamState, config: Face3DConfig) -> dict[str, Any]:
    """The inverse of `adam_moments_from_torch`; moments that are not kept are written as zeros."""
    shapes = flatten_dict(face3d_shapes(config)["params"], sep="/")

    def filled(tree: Mapping[str, Any]) -> dict[str, Any]:
        leaves = flatten_dict(tree, sep="/")
        empty = {n: np.zeros(s.shape, s.dtype) for n, s in shapes.items() if n not in leaves}
        return packed(unflatten_dict(leaves | empty, sep="/"))

    adam = dataclasses.replace(adam, mu=filled(adam.mu), nu=filled(adam.nu))
    return adam_to_torch(adam, parameter_rules(face3d_rules(config)))


def network_config(config: Mapping[str, Any] | Face3DConfig, names: Iterable[str]) -> Face3DConfig:
    """The config of a network whose parameters start with `names`, on either side.

    The names decide where the original's arguments mislead: without `model_type`, and with a
    `use_spatial_attention` that its last revision ignored.
    """
    if isinstance(config, Face3DConfig):
        return config
    names = set(names)
    args = dict(config)
    if "model_type" not in args:
        if "angle_warping" in names:
            args["model_type"] = "angle_warping"
        elif "encoder" in names:
            args["model_type"] = "encoder_decoder"
        elif "use_clip_pose_encoder" in args:
            args["model_type"] = "decoder_only_clip"
    args["use_keypoints"] = "fusion_weights" in names
    args["use_spatial_attention"] = "spatial_fusion" in names
    return Face3DConfig.from_original(args)


def original_config(
    config: Mapping[str, Any] | Face3DConfig, state_dict: Mapping[str, Any]
) -> Face3DConfig:
    """The config of a network with these weights of the original.

    As `network_config`; and where the original could not load CLIP, it took the numbers of the pose
    in spite of `use_clip_pose_encoder`.
    """
    if isinstance(config, Face3DConfig):
        return config
    config = network_config(config, (key.split(".")[0] for key in state_dict))
    width = text_width(state_dict)
    if not config.encodes_text:
        return config
    if width is None:
        return dataclasses.replace(config, use_clip_pose_encoder=False)
    return dataclasses.replace(config, pose_text_dim=width)


def _template(config: Face3DConfig) -> dict[str, Any]:
    """Packed arrays with the shapes and dtypes of the variables."""
    shapes = face3d_shapes(config)
    return packed(jax.tree.map(lambda s: np.broadcast_to(np.zeros((), s.dtype), s.shape), shapes))
