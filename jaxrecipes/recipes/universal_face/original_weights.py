"""Weights of the universal face network, and of its original's loss object, to and from PyTorch."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from jaxrecipes.convert.rules import dump_tensors, load_tensors, unwrapped
from jaxrecipes.recipes.faces.pose_text_weights import tabulated, text_width
from jaxrecipes.recipes.universal_face.network import (
    LossProjections,
    UniversalFace,
    UniversalFaceConfig,
)
from jaxrecipes.recipes.universal_face.original_rules import LOSS_RULES, universal_face_rules

_log = logging.getLogger("jaxrecipes")

_LOSS_PREFIX = "criterion."
_LOSS_KEYS = [rule.source for rule in LOSS_RULES]


def from_torch(
    state_dict: Mapping[str, np.ndarray], config: Mapping[str, Any] | UniversalFaceConfig
) -> tuple[UniversalFace, dict[str, Any], dict[str, Any]]:
    """(model, params, batch_stats) of a state dict of the original; see `jaxrecipes.convert`.

    `config` are the original's `args`. The tensors of its loss object, `id_to_feat_proj.weight` and
    `feat_to_id_proj.weight`, may be among the others, as they are or after "criterion.". The
    original does not save them: without them they are drawn, always the same, and a warning says
    so. Copies of CLIP become tables, see `jaxrecipes.recipes.faces.pose_text_weights`.
    """
    state_dict = tabulated(unwrapped(state_dict))
    config = network_config(config, state_dict)
    state_dict = {_without_prefix(key): value for key, value in state_dict.items()}
    if not any(key in state_dict for key in _LOSS_KEYS):
        _log.warning(
            "no loss projections (%s) among the weights: the original does not save them, so they "
            "are drawn anew. Codes and poses are as they were; cosines with the targets mean "
            "nothing before the projections have been trained",
            ", ".join(_LOSS_KEYS),
        )
        state_dict |= _drawn_projections(config)
    rules = [*universal_face_rules(config), *LOSS_RULES]
    variables = load_tensors(rules, state_dict, template(config))
    return UniversalFace(config), variables["params"], variables["batch_stats"]


def to_torch(
    params: Mapping[str, Any],
    batch_stats: Mapping[str, Any],
    config: Mapping[str, Any] | UniversalFaceConfig,
) -> dict[str, np.ndarray]:
    """The original network's state dict, its keys in its order; see `jaxrecipes.convert`.

    The loss projections are no part of it: see `loss_to_torch`; nor are copies of CLIP, in whose
    place are tables (`jaxrecipes.recipes.faces.pose_text_weights`).
    """
    network = {name: branch for name, branch in params.items() if name != "loss_projections"}
    variables = {"params": network, "batch_stats": batch_stats}
    return dump_tensors(universal_face_rules(_config(config)), variables)


def loss_to_torch(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The state dict of the original's loss object, from the parameters of ours."""
    return dump_tensors(LOSS_RULES, {"params": {"loss_projections": params["loss_projections"]}})


def template(config: UniversalFaceConfig) -> dict[str, Any]:
    """Shapes and dtypes of the variables, as `jax.eval_shape` gives them."""
    features = jax.ShapeDtypeStruct((1, config.feat_dim), jnp.float32)
    return jax.eval_shape(UniversalFace(config).init, jax.random.key(0), features)


def network_config(
    config: Mapping[str, Any] | UniversalFaceConfig, state_dict: Mapping[str, Any]
) -> UniversalFaceConfig:
    """The config of a network with these weights: where the original could not load CLIP, it took
    the numbers of the pose in spite of `use_clip_pose_encoder`.
    """
    if isinstance(config, UniversalFaceConfig):
        return config
    config = _config(config)
    width = text_width(state_dict)
    if not config.use_clip_pose_encoder or width is None:
        return dataclasses.replace(config, use_clip_pose_encoder=False)
    return dataclasses.replace(config, pose_text_dim=width)


def _config(config: Mapping[str, Any] | UniversalFaceConfig) -> UniversalFaceConfig:
    if isinstance(config, UniversalFaceConfig):
        return config
    return UniversalFaceConfig.from_dict(config)


def _without_prefix(key: str) -> str:
    bare = key.removeprefix(_LOSS_PREFIX)
    return bare if bare in _LOSS_KEYS else key


def _drawn_projections(config: UniversalFaceConfig) -> dict[str, np.ndarray]:
    codes = jnp.zeros((1, config.id_dim), jnp.float32)
    drawn = LossProjections(config.feat_dim).init(jax.random.key(0), codes)["params"]
    return loss_to_torch({"loss_projections": drawn})
