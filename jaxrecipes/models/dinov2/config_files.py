"""DINOv2's configuration from Hugging Face's, back, and from shapes of weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrecipes.convert.shapes import count_blocks, shapes_of
from jaxrecipes.errors import WRONG_TYPES, telling
from jaxrecipes.models.dinov2.config import Dinov2Config
from jaxrecipes.models.dinov2.rules import MLP, OUTSIDE, SWIGLU, Dinov2Layout

_HEAD_WIDTH = 64  # of all published sizes
_KINDS = {"dinov2": "Dinov2Model", "dinov2_with_registers": "Dinov2WithRegistersModel"}

# ours -> (Hugging Face's, the default there)
_FIELDS: dict[str, tuple[str, Any]] = {
    "width": ("hidden_size", 768),
    "depth": ("num_hidden_layers", 12),
    "num_heads": ("num_attention_heads", 12),
    "mlp_ratio": ("mlp_ratio", 4),
    "swiglu": ("use_swiglu_ffn", False),
    "patch_size": ("patch_size", 14),
    "image_size": ("image_size", 224),
    "norm_eps": ("layer_norm_eps", 1e-6),
}
_FIXED = {"hidden_act": "gelu", "num_channels": 3, "qkv_bias": True}


def from_huggingface(config: Mapping[str, Any]) -> Dinov2Config:
    """The architecture that a `config.json` of Hugging Face describes.

    What does not shape the network, such as the scale of its initialisation, is passed over.

    Raises:
      ValueError: not a DINOv2, or one that `Dinov2Config` does not cover.
    """
    kind = config.get("model_type", "dinov2")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"this config.json is of model_type {kind!r}, expected 'dinov2'")
    for name, want in _FIXED.items():
        if config.get(name, want) != want:
            raise ValueError(f"a DINOv2 with {name} {config[name]!r} is not covered, only {want!r}")
    with telling("this config.json does not describe a DINOv2", *WRONG_TYPES):
        registers = config.get("num_register_tokens", 4) if kind == "dinov2_with_registers" else 0
        fields = {ours: config.get(theirs, default) for ours, (theirs, default) in _FIELDS.items()}
        return Dinov2Config(**fields, num_registers=registers)


def to_huggingface(config: Dinov2Config) -> dict[str, Any]:
    """The `config.json` that `transformers` reads, with or without registers."""
    kind = "dinov2_with_registers" if config.num_registers else "dinov2"
    ratio = config.mlp_ratio
    return {
        "architectures": [_KINDS[kind]],
        "model_type": kind,
        "dtype": "float32",
        **{theirs: getattr(config, ours) for ours, (theirs, _) in _FIELDS.items()},
        "mlp_ratio": int(ratio) if ratio == int(ratio) else ratio,
        **({"num_register_tokens": config.num_registers} if config.num_registers else {}),
        **_FIXED,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "drop_path_rate": 0.0,
        "layerscale_value": 1.0,
        "initializer_range": 0.02,
    }


def from_shapes(state_dict: Mapping[str, np.ndarray], layout: Dinov2Layout) -> Dinov2Config:
    """The architecture that the shapes of the weights tell, with heads of 64 channels.

    Args:
      state_dict: the weights, as `dinov2_rules.clean` gives them.
      layout: of their keys.

    Raises:
      ConversionError: tensors that are needed for this are missing.
      ValueError: sizes that no DINOv2 has.
    """
    names = OUTSIDE[layout]
    blocks, patches = names["blocks"], f"{names['patch_embedding']}.weight"
    gated = f"{blocks}0.{SWIGLU[layout]['linear1']}.weight"
    swiglu = gated in state_dict
    hidden = gated if swiglu else f"{blocks}0.{MLP['linear1']}.weight"
    needed = (patches, names["position_embedding"], hidden)
    shape = shapes_of(state_dict, needed, network="DINOv2")
    width, patch, rows = shape[patches][0], shape[patches][-1], shape[hidden][0]
    registers = shape.get(names["register_tokens"], (1, 0))[1]
    return Dinov2Config(
        width=width,
        depth=count_blocks(shape, blocks),
        num_heads=max(1, width // _HEAD_WIDTH),
        mlp_ratio=_gated_ratio(rows // 2, width) if swiglu else rows / width,
        swiglu=swiglu,
        patch_size=patch,
        image_size=patch * round((shape[names["position_embedding"]][1] - 1) ** 0.5),
        num_registers=registers,
    )


def _gated_ratio(inner: int, width: int) -> float:
    """An `mlp_ratio` that gives the inner width: 4, as published, where that does."""
    published = Dinov2Config(width=width, depth=1, num_heads=1, swiglu=True)
    return published.mlp_ratio if published.mlp_width == inner else 1.5 * inner / width
