"""hand_pose's configuration from the original's and from shapes of weights."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrecipes.convert.rules import ConversionError
from jaxrecipes.convert.shapes import count_blocks, shapes_of
from jaxrecipes.errors import unknown_name
from jaxrecipes.models.dinov2.config_files import from_shapes
from jaxrecipes.models.dinov2.network import IMAGE_MEAN, IMAGE_STD
from jaxrecipes.models.hand.joints import (
    NORM_ROOT_MEAN,
    NORM_ROOT_STD,
    NUM_ROTATIONS,
    ROOT_MEAN,
    ROOT_STD,
)
from jaxrecipes.models.hand.rotations import JointType
from jaxrecipes.recipes.hand_pose.decoder import AXES
from jaxrecipes.recipes.hand_pose.network_config import (
    HandDecoderConfig,
    HandPoseConfig,
    PerspectiveConfig,
    TemporalConfig,
)

_KNOWN: dict[str, tuple[str, ...]] = {
    "": (
        "img_size",
        "img_mean",
        "img_std",
        "stage",
        "num_frame",
        "joint_type",
        "norm_by_hand",
        "backbone",
        "handec",
        "persp_info_embed",
        "temporal_encoder",
    ),
    "backbone": ("backbone_str", "infusion_layer", "drop_cls", "num_heads"),
    "handec": (
        "num_layer",
        "num_head",
        "dim_head",
        "dim_mlp",
        "dropout",
        "norm",
        "context_dim",
        "skip_token_embed",
        "use_mean_init",
        "denorm_output",
        "heatmap_resolution",
    ),
    "persp_info_embed": ("type", "num_sample", "pie_fusion"),
    "temporal_encoder": ("layers", "heads", "trope_scalar", "zero_linear"),
}
_JOINT_TYPES: dict[int, JointType] = {3: "3", 6: "6d", 4: "quat"}
_DIM_HEAD = 64
_MEAN_FILE, _STATS_FILE = "mano_mean_params.npz", "mano_stats.npz"  # as the original calls them
_BACKBONE = "backbone.backbone."


def network_config(
    state_dict: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> HandPoseConfig:
    """The architecture of a state dict of the original.

    Args:
      state_dict: the original's.
      config: its configuration or the part MODEL of that, of which every field may be missing;
        also `backbone.num_heads`, which the original reads with its backbone.

    Raises:
      ConversionError: tensors are missing that the size is told by.
      ValueError: an unknown field, or one that our network does not cover.
    """
    model = dict(config.get("MODEL", config))
    _check_names(model)
    backbone, handec, persp, temporal = (
        dict(model.get(part) or {})
        for part in ("backbone", "handec", "persp_info_embed", "temporal_encoder")
    )
    if handec.get("norm", "layer") != "layer" or handec.get("skip_token_embed"):
        raise ValueError(
            "handec.norm and handec.skip_token_embed of the original are covered as 'layer' and "
            "false alone"
        )
    dinov2 = from_shapes(
        {k.removeprefix(_BACKBONE): a for k, a in state_dict.items() if k.startswith(_BACKBONE)},
        "huggingface",
    )
    dinov2 = dataclasses.replace(dinov2, num_heads=backbone.get("num_heads", dinov2.num_heads))
    drop_cls = bool(backbone.get("drop_cls", False))
    by_hand = bool(model.get("norm_by_hand", True))
    infusion = backbone.get("infusion_layer")
    own = _statistics(state_dict, by_hand=by_hand) | _image_statistics(state_dict)
    return HandPoseConfig(
        backbone=dinov2,
        img_size=int(model.get("img_size") or _img_size(state_dict, dinov2.patch_size, drop_cls)),
        num_frame=int(model.get("num_frame", 1)),
        joint_type=_joint_type(state_dict),
        norm_by_hand=by_hand,
        drop_cls=drop_cls,
        infusion_layer=None if infusion is None else tuple(infusion),
        persp_info_embed=_perspective(state_dict, persp),
        handec=_decoder(state_dict, handec),
        temporal=_temporal(state_dict, temporal) if model.get("stage") == "stage2" else None,
        **own,
    )


def _check_names(model: Mapping[str, Any]) -> None:
    for part, known in _KNOWN.items():
        for name in (model.get(part) or {}) if part else model:
            if name not in known:
                raise unknown_name(f"field of MODEL{part and '.'}{part}", name, known)


def _shape(state_dict: Mapping[str, np.ndarray], key: str) -> tuple[int, ...]:
    return shapes_of(state_dict, [key], network="hand_pose network")[key]


def _img_size(state_dict: Mapping[str, np.ndarray], patch: int, drop_cls: bool) -> int:
    """Told by the positions of the perspective module, where there are some."""
    key = "persp_info_embedder.net.pos_embedding"
    if key not in state_dict:
        return 224
    tokens = np.shape(state_dict[key])[1] - (0 if drop_cls else 1)
    return patch * round(tokens**0.5)


def _joint_type(state_dict: Mapping[str, np.ndarray]) -> JointType:
    rows = _shape(state_dict, "handec.decpose.bias")[0]
    width = rows // NUM_ROTATIONS
    if rows % NUM_ROTATIONS or width not in _JOINT_TYPES:
        raise ConversionError(
            f"handec.decpose.bias has {rows} rows, expected {NUM_ROTATIONS} times 3, 4 or 6"
        )
    return _JOINT_TYPES[width]


def _statistics(state_dict: Mapping[str, np.ndarray], *, by_hand: bool) -> dict[str, Any]:
    """Mean and deviation that the bins are laid by; the published ones where they fit."""
    means, stds = [], []
    for axis in AXES:
        key = f"handec.deccam.{axis}_centers"
        if key not in state_dict:
            return {}
        first, last = (float(state_dict[key][i]) for i in (0, -1))
        means.append((first + last) / 2.0)
        stds.append((last - first) / 10.0)
    names = ("norm_mean", "norm_std") if by_hand else ("mean", "std")
    published = (NORM_ROOT_MEAN, NORM_ROOT_STD) if by_hand else (ROOT_MEAN, ROOT_STD)
    if np.allclose([means, stds], published, rtol=1e-5, atol=1e-5 * max(stds)):
        return {}
    return dict(zip(names, (tuple(means), tuple(stds)), strict=True))


def _image_statistics(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Mean and deviation of patches, where they are not ImageNet's."""
    found = {}
    for name, usual in (("img_mean", IMAGE_MEAN), ("img_std", IMAGE_STD)):
        if name in state_dict and not np.allclose(state_dict[name], usual, rtol=1e-5):
            found[name] = tuple(float(x) for x in state_dict[name])
    return found


def _perspective(
    state_dict: Mapping[str, np.ndarray], given: Mapping[str, Any]
) -> PerspectiveConfig:
    prefix = "persp_info_embedder."
    if f"{prefix}zero_linear.weight" in state_dict:
        edge = state_dict.get(f"{prefix}grid_edge")
        count = given.get("num_sample", 8) if edge is None else len(edge)
        return PerspectiveConfig(num_sample=int(count))
    if f"{prefix}mlp.0.weight" in state_dict:
        inputs = _shape(state_dict, f"{prefix}mlp.0.weight")[1]
        return PerspectiveConfig(
            type="dense",
            num_sample=round((inputs / 2) ** 0.5),
            pie_fusion=given.get("pie_fusion", "all"),
        )
    return PerspectiveConfig(type="none")


def _decoder(state_dict: Mapping[str, np.ndarray], given: Mapping[str, Any]) -> HandDecoderConfig:
    prefix = "handec.transformer.transformer.layers."
    packed, width = _shape(state_dict, f"{prefix}0.0.fn.to_qkv.weight")
    inner = packed // 3
    heads = given.get("num_head") or inner // given.get("dim_head", _DIM_HEAD)
    if not heads or inner % heads:
        raise ConversionError(
            f"the decoder's heads have {inner} channels together: give handec.num_head, how many "
            "there are"
        )
    flat_6d = np.ndim(state_dict["handec.init_hand_pose"]) == 1
    bins = [_shape(state_dict, f"handec.deccam.dec{axis}.weight")[0] for axis in AXES]
    return HandDecoderConfig(
        num_layer=count_blocks(state_dict, prefix),
        num_head=heads,
        dim_head=inner // heads,
        dim_mlp=_shape(state_dict, f"{prefix}0.2.fn.net.0.bias")[0],
        width=width,
        use_mean_init=_MEAN_FILE if flat_6d or given.get("use_mean_init") else None,
        denorm_output=_STATS_FILE if "handec.scale_tril" in state_dict else None,
        heatmap_resolution=tuple(bins),
    )


def _temporal(state_dict: Mapping[str, np.ndarray], given: Mapping[str, Any]) -> TemporalConfig:
    return TemporalConfig(
        layers=count_blocks(state_dict, "temporal_refiner.layers."),
        heads=int(given.get("heads", 16)),
        trope_scalar=float(given.get("trope_scalar", 20.0)),
        zero_linear=bool(given.get("zero_linear", True)),
    )
