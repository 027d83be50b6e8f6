"""The rule tables of DINOv2: Hugging Face's `Dinov2Model`, and the layout of its authors."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from jaxrecipes.convert.rules import CONV, FIRST, Rule, norm_rules, packed_rules, weight_rules
from jaxrecipes.models.dinov2.config import Dinov2Config

Dinov2Layout = Literal["huggingface", "official"]

# ours -> theirs
OUTSIDE: dict[Dinov2Layout, dict[str, str]] = {
    "huggingface": {
        "cls_token": "embeddings.cls_token",
        "mask_token": "embeddings.mask_token",
        "register_tokens": "embeddings.register_tokens",
        "position_embedding": "embeddings.position_embeddings",
        "patch_embedding": "embeddings.patch_embeddings.projection",
        "blocks": "encoder.layer.",
        "norm": "layernorm",
    },
    "official": {
        "cls_token": "cls_token",
        "mask_token": "mask_token",
        "register_tokens": "register_tokens",
        "position_embedding": "pos_embed",
        "patch_embedding": "patch_embed.proj",
        "blocks": "blocks.",
        "norm": "norm",
    },
}
_BLOCK: dict[Dinov2Layout, dict[str, str]] = {
    "huggingface": {
        "self_attn/out_proj": "attention.output.dense",
        "layer_scale1": "layer_scale1.lambda1",
        "layer_scale2": "layer_scale2.lambda1",
    },
    "official": {
        "self_attn/out_proj": "attn.proj",
        "layer_scale1": "ls1.gamma",
        "layer_scale2": "ls2.gamma",
    },
}
MLP = {"linear1": "mlp.fc1", "linear2": "mlp.fc2"}  # of both
SWIGLU: dict[Dinov2Layout, dict[str, str]] = {
    "huggingface": {"linear1": "mlp.weights_in", "linear2": "mlp.weights_out"},
    "official": {"linear1": "mlp.w12", "linear2": "mlp.w3"},
}
_QKV = "attention.attention"  # Hugging Face's, whose queries, keys and values are three layers


def dinov2_rules(config: Dinov2Config, layout: Dinov2Layout) -> list[Rule]:
    """One rule per parameter of `Dinov2`, with targets such as "blocks_0/norm1/scale"."""
    names = OUTSIDE[layout]
    outside = ["cls_token", "position_embedding", "register_tokens", "mask_token"]
    if not config.num_registers:
        outside.remove("register_tokens")
    rules = [Rule(names[ours], ours, FIRST) for ours in outside]
    rules += weight_rules(names["patch_embedding"], "patch_embedding", CONV)
    for i in range(config.depth):
        rules += _block(config, layout, f"{names['blocks']}{i}", f"blocks_{i}")
    return [*rules, *norm_rules(names["norm"], "norm")]


def find_layout(state_dict: Mapping[str, Any]) -> Dinov2Layout:
    """Which of the two layouts the keys of `clean` follow.

    Raises:
      ValueError: neither.
    """
    for layout, names in OUTSIDE.items():
        if names["cls_token"] in state_dict:
            return layout
    raise ValueError(f"not the weights of a DINOv2; keys start with {sorted(state_dict)[:4]}")


def clean(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of the network alone, with the names that published files have.

    Heads for classification and for training are left out, as are the numbers of the chunks
    in "blocks.CHUNK.BLOCK.", as training in chunks writes them. Files without a mask token, which
    the network does not use, are given one of zeros.
    """
    for prefix in ("dinov2.", "dinov2_with_registers.", "backbone."):
        if any(key.startswith(prefix) for key in state_dict):
            state_dict = {
                key.removeprefix(prefix): array
                for key, array in state_dict.items()
                if key.startswith(prefix)
            }
    cleaned = {re.sub(r"^blocks\.\d+\.(?=\d)", "blocks.", k): a for k, a in state_dict.items()}
    for names in OUTSIDE.values():
        token = cleaned.get(names["cls_token"])
        if token is not None and names["mask_token"] not in cleaned:
            cleaned[names["mask_token"]] = np.zeros((1, np.shape(token)[-1]), np.float32)
    return cleaned


def _block(config: Dinov2Config, layout: Dinov2Layout, source: str, target: str) -> Iterator[Rule]:
    names = _BLOCK[layout]
    packed, out = f"{target}/self_attn/in_proj", "self_attn/out_proj"
    yield from norm_rules(f"{source}.norm1", f"{target}/norm1")
    if layout == "official":
        yield from weight_rules(f"{source}.attn.qkv", packed)
    else:
        parts = [f"{source}.{_QKV}.{part}" for part in ("query", "key", "value")]
        yield from packed_rules(parts, packed)
    yield from weight_rules(f"{source}.{names[out]}", f"{target}/{out}")
    yield Rule(f"{source}.{names['layer_scale1']}", f"{target}/layer_scale1")
    yield from norm_rules(f"{source}.norm2", f"{target}/norm2")
    for ours, theirs in (SWIGLU[layout] if config.swiglu else MLP).items():
        yield from weight_rules(f"{source}.{theirs}", f"{target}/{ours}")
    yield Rule(f"{source}.{names['layer_scale2']}", f"{target}/layer_scale2")
