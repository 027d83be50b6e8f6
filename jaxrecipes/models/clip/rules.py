"""The rule tables of CLIP: Hugging Face's `CLIPModel`, and OpenAI's layout, also open_clip's."""

import re
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np

from jaxrecipes.convert.rules import CONV, LINEAR, Rule, norm_rules, packed_rules, weight_rules
from jaxrecipes.models.clip.config import ClipConfig

ClipLayout = Literal["huggingface", "openai"]

# ours -> theirs, within a block; the packed projection apart
_BLOCK: dict[ClipLayout, dict[str, str]] = {
    "huggingface": {
        "norm1": "layer_norm1",
        "self_attn/out_proj": "self_attn.out_proj",
        "norm2": "layer_norm2",
        "linear1": "mlp.fc1",
        "linear2": "mlp.fc2",
    },
    "openai": {
        "norm1": "ln_1",
        "self_attn/out_proj": "attn.out_proj",
        "norm2": "ln_2",
        "linear1": "mlp.c_fc",
        "linear2": "mlp.c_proj",
    },
}


def clip_rules(config: ClipConfig, layout: ClipLayout) -> list[Rule]:
    """One rule per parameter of `Clip`, with targets such as "vision/blocks_0/norm1/scale"."""
    make = _huggingface if layout == "huggingface" else _openai
    return [Rule("logit_scale", "logit_scale"), *make(config)]


def find_layout(state_dict: Mapping[str, np.ndarray]) -> ClipLayout:
    """Which of the two layouts the keys follow.

    Raises:
      ValueError: neither.
    """
    if any(key.startswith(("vision_model.", "text_model.")) for key in state_dict):
        return "huggingface"
    if any(key.startswith("visual.") for key in state_dict):
        if "visual.conv1.weight" not in state_dict or "visual.class_embedding" not in state_dict:
            raise ValueError(
                "the image tower of these weights is no vision transformer (OpenAI's ResNets, or a "
                "tower of timm); only CLIP's ViT models can be read"
            )
        return "openai"
    raise ValueError(f"not the weights of a CLIP; keys start with {sorted(state_dict)[:4]}")


def clean(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The parameters alone, under open_clip's older keys where it has its newer "text." keys."""
    return {
        re.sub(r"^text\.", "", key): array
        for key, array in state_dict.items()
        if not key.endswith("position_ids")
        and not key.endswith("attn_mask")
        and key not in ("input_resolution", "context_length", "vocab_size")
    }


def _block(source: str, target: str, layout: ClipLayout) -> Iterator[Rule]:
    packed = f"{target}/self_attn/in_proj"
    if layout == "openai":
        yield Rule(f"{source}.attn.in_proj_weight", f"{packed}/kernel", LINEAR)
        yield Rule(f"{source}.attn.in_proj_bias", f"{packed}/bias")
    else:
        yield from packed_rules([f"{source}.self_attn.{part}_proj" for part in "qkv"], packed)
    for ours, theirs in _BLOCK[layout].items():
        if ours.startswith("norm"):
            yield from norm_rules(f"{source}.{theirs}", f"{target}/{ours}")
        else:
            yield from weight_rules(f"{source}.{theirs}", f"{target}/{ours}")


def _huggingface(config: ClipConfig) -> Iterator[Rule]:
    tower = "text_model"
    yield Rule(f"{tower}.embeddings.token_embedding.weight", "text/token_embedding")
    yield Rule(f"{tower}.embeddings.position_embedding.weight", "text/position_embedding")
    for i in range(config.text.depth):
        yield from _block(f"{tower}.encoder.layers.{i}", f"text/blocks_{i}", "huggingface")
    yield from norm_rules(f"{tower}.final_layer_norm", "text/final_norm")
    tower = "vision_model"
    yield Rule(f"{tower}.embeddings.class_embedding", "vision/class_embedding")
    patches = f"{tower}.embeddings.patch_embedding.weight"
    yield Rule(patches, "vision/patch_embedding/kernel", CONV)
    yield Rule(f"{tower}.embeddings.position_embedding.weight", "vision/position_embedding")
    yield from norm_rules(f"{tower}.pre_layrnorm", "vision/pre_norm")  # Hugging Face's spelling
    for i in range(config.vision.depth):
        yield from _block(f"{tower}.encoder.layers.{i}", f"vision/blocks_{i}", "huggingface")
    yield from norm_rules(f"{tower}.post_layernorm", "vision/post_norm")
    yield Rule("visual_projection.weight", "vision/projection/kernel", LINEAR)
    yield Rule("text_projection.weight", "text/projection/kernel", LINEAR)


def _openai(config: ClipConfig) -> Iterator[Rule]:
    yield Rule("positional_embedding", "text/position_embedding")
    yield Rule("text_projection", "text/projection/kernel")
    yield Rule("visual.class_embedding", "vision/class_embedding")
    yield Rule("visual.positional_embedding", "vision/position_embedding")
    yield Rule("visual.proj", "vision/projection/kernel")
    yield Rule("visual.conv1.weight", "vision/patch_embedding/kernel", CONV)
    yield from norm_rules("visual.ln_pre", "vision/pre_norm")
    for i in range(config.vision.depth):
        yield from _block(f"visual.transformer.resblocks.{i}", f"vision/blocks_{i}", "openai")
    yield from norm_rules("visual.ln_post", "vision/post_norm")
    for i in range(config.text.depth):
        yield from _block(f"transformer.resblocks.{i}", f"text/blocks_{i}", "openai")
    yield Rule("token_embedding.weight", "text/token_embedding")
    yield from norm_rules("ln_final", "text/final_norm")
