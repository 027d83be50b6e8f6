"""CLIP's configuration from Hugging Face's, from open_clip's, and from shapes of weights."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxrecipes.convert.shapes import count_blocks, shapes_of
from jaxrecipes.errors import WRONG_TYPES, telling
from jaxrecipes.models.clip.config import (
    Activation,
    ClipConfig,
    ClipTextConfig,
    ClipTowerConfig,
    ClipVisionConfig,
)
from jaxrecipes.models.clip.rules import ClipLayout

_MEANT_HIGHEST = 2  # the `eos_token_id` of published configurations: take the highest id instead
_ALONE = {"text": "clip_text_model", "vision": "clip_vision_model"}  # `model_type` of one tower
_HEAD_WIDTH = 64  # of all published towers

# ours -> (Hugging Face's, the default there)
_TOWER: dict[str, tuple[str, Any]] = {
    "depth": ("num_hidden_layers", 12),
    "activation": ("hidden_act", "quick_gelu"),
    "norm_eps": ("layer_norm_eps", 1e-5),
}
_VISION = _TOWER | {
    "width": ("hidden_size", 768),
    "num_heads": ("num_attention_heads", 12),
    "mlp_width": ("intermediate_size", 3072),
    "image_size": ("image_size", 224),
    "patch_size": ("patch_size", 32),
}
_TEXT = _TOWER | {
    "width": ("hidden_size", 512),
    "num_heads": ("num_attention_heads", 8),
    "mlp_width": ("intermediate_size", 2048),
    "vocab_size": ("vocab_size", 49408),
    "context_length": ("max_position_embeddings", 77),
    "end_token_id": ("eos_token_id", 49407),
}


def from_huggingface(config: Mapping[str, Any]) -> ClipConfig:
    """The architecture that a `config.json` of Hugging Face describes.

    Absent fields have Hugging Face's defaults, those of ViT-B/32; so has the other tower where the
    configuration is of one tower alone. What does not shape the network, such as the scale of its
    initialisation, is passed over.

    Raises:
      ValueError: not a CLIP, or one that `ClipConfig` does not cover.
    """
    kind = config.get("model_type", "clip")
    if kind not in ("clip", *_ALONE.values()):
        raise ValueError(f"this config.json is of model_type {kind!r}, expected 'clip'")

    def tower(name: str, fields: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
        # Some published files say the same twice; the longer name then wins, as in transformers.
        inner = (config.get(f"{name}_config") or {}) | (config.get(f"{name}_config_dict") or {})
        inner = config if kind == _ALONE[name] else inner
        return {ours: inner.get(theirs, default) for ours, (theirs, default) in fields.items()}

    with telling("this config.json does not describe a CLIP", *WRONG_TYPES):
        text = tower("text", _TEXT)
        if text["end_token_id"] == _MEANT_HIGHEST:
            text["end_token_id"] = None
        return ClipConfig(
            vision=ClipVisionConfig(**tower("vision", _VISION)),
            text=ClipTextConfig(**text),
            projection_dim=config.get("projection_dim", 512),
        )


def to_huggingface(config: ClipConfig) -> dict[str, Any]:
    """The `config.json` that `transformers` reads, for `CLIPModel`."""

    def tower(part: ClipTowerConfig, name: str, fields: Mapping[str, tuple[str, Any]]):
        values = {theirs: getattr(part, ours) for ours, (theirs, _) in fields.items()}
        return {
            "model_type": f"clip_{name}_model",
            "projection_dim": config.projection_dim,
            "attention_dropout": 0.0,
            **values,
        }

    text = tower(config.text, "text", _TEXT)
    if text["eos_token_id"] is None:
        text["eos_token_id"] = _MEANT_HIGHEST
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "dtype": "float32",
        "projection_dim": config.projection_dim,
        "logit_scale_init_value": 2.6592,
        "text_config": text,
        "vision_config": tower(config.vision, "vision", _VISION) | {"num_channels": 3},
    }


def from_open_clip(config: Mapping[str, Any]) -> ClipConfig:
    """The architecture that an `open_clip_config.json` describes, by default with exact GELU.

    Raises:
      ValueError: a tower that is no CLIP transformer.
    """
    with telling("this open_clip_config.json does not describe a CLIP", *WRONG_TYPES):
        model = config["model_cfg"]
        vision, text = model["vision_cfg"], model["text_cfg"]
        activation: Activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
        if (
            "layers" not in vision
            or "hf_model_name" in text
            or not isinstance(vision["layers"], int)
        ):
            raise ValueError("this open_clip model is not made of CLIP's own two transformers")

        def tower(own: Mapping[str, Any], num_heads: int) -> dict[str, Any]:
            return {
                "width": own["width"],
                "depth": own["layers"],
                "num_heads": num_heads,
                "mlp_width": int(own["width"] * own.get("mlp_ratio", 4.0)),
                "activation": activation,
            }

        heads = vision["width"] // vision.get("head_width", _HEAD_WIDTH)
        return ClipConfig(
            vision=ClipVisionConfig(
                image_size=vision["image_size"],
                patch_size=vision["patch_size"],
                **tower(vision, heads),
            ),
            text=ClipTextConfig(
                vocab_size=text.get("vocab_size", 49408),
                context_length=text.get("context_length", 77),
                **tower(text, text["heads"]),
            ),
            projection_dim=model["embed_dim"],
        )


class _Keys(NamedTuple):
    """Where a layout keeps the tensors whose shapes tell the architecture."""

    patches: str
    vision_positions: str
    vision_blocks: str
    tokens: str
    text_positions: str
    text_blocks: str
    hidden: str  # of the first block of a tower: the kernel [mlp_width, width]
    projection: str
    projection_axis: int  # of `projection`, the joint space


_KEYS: dict[ClipLayout, _Keys] = {
    "huggingface": _Keys(
        patches="vision_model.embeddings.patch_embedding.weight",
        vision_positions="vision_model.embeddings.position_embedding.weight",
        vision_blocks="vision_model.encoder.layers.",
        tokens="text_model.embeddings.token_embedding.weight",
        text_positions="text_model.embeddings.position_embedding.weight",
        text_blocks="text_model.encoder.layers.",
        hidden="0.mlp.fc1.weight",
        projection="visual_projection.weight",
        projection_axis=0,
    ),
    "openai": _Keys(
        patches="visual.conv1.weight",
        vision_positions="visual.positional_embedding",
        vision_blocks="visual.transformer.resblocks.",
        tokens="token_embedding.weight",
        text_positions="positional_embedding",
        text_blocks="transformer.resblocks.",
        hidden="0.mlp.c_fc.weight",
        projection="visual.proj",
        projection_axis=1,
    ),
}


def from_shapes(state_dict: Mapping[str, np.ndarray], layout: ClipLayout) -> ClipConfig:
    """The architecture that the shapes of the weights tell.

    They do not tell the activation, taken to be quick-GELU, or the numbers of heads, which are 64
    wide in all published towers.

    Args:
      state_dict: the weights.
      layout: of their keys.

    Raises:
      ConversionError: tensors that are needed for this are missing.
    """
    keys = _KEYS[layout]
    hidden = (keys.vision_blocks + keys.hidden, keys.text_blocks + keys.hidden)
    needed = (keys.patches, keys.vision_positions, keys.tokens, keys.text_positions)
    shape = shapes_of(state_dict, (*needed, *hidden, keys.projection), network="CLIP")
    patch, positions = shape[keys.patches][-1], shape[keys.vision_positions][0]

    def tower(width: int, blocks: str) -> dict[str, Any]:
        return {
            "width": width,
            "depth": count_blocks(shape, blocks),
            "num_heads": max(1, width // _HEAD_WIDTH),
            "mlp_width": shape[blocks + keys.hidden][0],
            "activation": "quick_gelu",
        }

    return ClipConfig(
        vision=ClipVisionConfig(
            image_size=patch * round((positions - 1) ** 0.5),
            patch_size=patch,
            **tower(shape[keys.patches][0], keys.vision_blocks),
        ),
        text=ClipTextConfig(
            vocab_size=shape[keys.tokens][0],
            context_length=shape[keys.text_positions][0],
            **tower(shape[keys.tokens][1], keys.text_blocks),
        ),
        projection_dim=shape[keys.projection][keys.projection_axis],
    )
