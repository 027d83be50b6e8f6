"""Weights of the original clip_iqa network, both ways, without PyTorch."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxrecipes.convert.packed_attention import packed, split
from jaxrecipes.convert.rules import ConversionError, dump_tensors, load_tensors, unwrapped
from jaxrecipes.errors import unknown_name
from jaxrecipes.models.clip.config import ClipConfig
from jaxrecipes.models.clip.config_files import from_huggingface, from_shapes
from jaxrecipes.models.clip.rules import clean
from jaxrecipes.recipes.clip_iqa.network import ClipIqa
from jaxrecipes.recipes.clip_iqa.network_config import ClipIqaConfig, HeadsConfig
from jaxrecipes.recipes.clip_iqa.original_rules import REFINEMENT, clip_iqa_rules

_OWN = ("clip_config", "refinement_heads", "use_two_branch")
_RATES = ("residual_scale_q", "residual_scale_c", "dropout")


def from_torch(
    state_dict: Mapping[str, np.ndarray], config: Mapping[str, Any] | ClipIqaConfig
) -> tuple[ClipIqa, dict[str, Any], dict[str, Any]]:
    """(model, params, {}) of a state dict of the original; see `jaxrecipes.convert`.

    `config` is a `ClipIqaConfig`, or a mapping with what the file does not say: `residual_scale_q`,
    `residual_scale_c`, `dropout`, `use_two_branch`, `refinement_heads` as the original's arguments
    are called, and `clip_config`, the content of a config.json of Hugging Face. All have defaults;
    that of the last is quick-GELU and heads of 64 channels, as in all of OpenAI's models.
    """
    state_dict = clean(unwrapped(state_dict))
    if not isinstance(config, ClipIqaConfig):
        config = network_config(state_dict, config)
    template = _refined(_template(config), packed)
    params = load_tensors(clip_iqa_rules(config), state_dict, template)
    return ClipIqa(config), _refined(params, split), {}


def to_torch(
    params: Mapping[str, Any],
    batch_stats: Mapping[str, Any],
    config: Mapping[str, Any] | ClipIqaConfig,
) -> dict[str, np.ndarray]:
    """The original's state dict; see `jaxrecipes.convert`.

    Raises:
      ValueError: also for a mapping without `clip_config`.
    """
    if not isinstance(config, ClipIqaConfig):
        config = _config_of(params, config)
    return dump_tensors(clip_iqa_rules(config), _refined({**params, **batch_stats}, packed))


def network_config(
    state_dict: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> ClipIqaConfig:
    """The architecture of a state dict; `config` as in `from_torch`.

    Raises:
      ConversionError: tensors are missing that the size is told by.
      ValueError: an unknown field of `config`.
    """
    _check(config)
    towers = {
        key.removeprefix("clip."): array
        for key, array in state_dict.items()
        if key.startswith("clip.")
    }
    clip = (
        from_huggingface(config["clip_config"])
        if "clip_config" in config
        else from_shapes(towers, "huggingface")
    )
    rows = {key: np.shape(array)[0] for key, array in state_dict.items() if np.ndim(array)}
    sizes = _sizes(
        rows, "q_delta_head.0.bias", "c_delta_head.1.bias", "c_head.1.bias", "input_proj.0.bias"
    )
    layers = {key.split(".")[3] for key in rows if key.startswith(f"{REFINEMENT}.transformer.")}
    return _network_config(clip, sizes, len(layers), config)


def _config_of(params: Mapping[str, Any], config: Mapping[str, Any]) -> ClipIqaConfig:
    _check(config)
    if "clip_config" not in config:
        raise ValueError(
            "the config of the network has no clip_config, which says how large its CLIP is: give "
            "the content of a config.json of Hugging Face, or a ClipIqaConfig"
        )
    rows = {
        f"{name}/{layer}": np.shape(branch["bias"])[0]
        for name, module in params.items()
        if isinstance(module, Mapping)
        for layer, branch in module.items()
        if isinstance(branch, Mapping) and "bias" in branch
    }
    sizes = _sizes(
        rows, "q_delta_head/dense1", "c_delta_head/dense1", "c_head/dense1", "/input_proj"
    )
    layers = [name for name in params.get(REFINEMENT, ()) if name.startswith("layers_")]
    return _network_config(from_huggingface(config["clip_config"]), sizes, len(layers), config)


def _sizes(
    rows: Mapping[str, int], delta_q: str, delta_c: str, head_c: str, projection: str
) -> dict[str, int]:
    """The hidden widths among the lengths of biases, by the fields of `HeadsConfig`."""
    sizes = {"hidden_dim_q": delta_q, "hidden_dim_c": delta_c if delta_q in rows else head_c}
    if delta_q not in rows and head_c not in rows:
        raise ConversionError(f"no heads of clip_iqa: neither {delta_q} nor {head_c} is there")
    found = {field: rows[key] for field, key in sizes.items() if key in rows}
    refined = [count for key, count in rows.items() if key.endswith(projection)]
    return found | ({"refinement_dim": refined[0]} if refined else {})


def _network_config(
    clip: ClipConfig, sizes: Mapping[str, int], layers: int, config: Mapping[str, Any]
) -> ClipIqaConfig:
    residual = "hidden_dim_q" in sizes
    own: dict[str, Any] = {name: config[name] for name in _RATES if name in config}
    own |= sizes
    if not residual:
        own |= {"mode": "traditional", "two_branch": bool(config.get("use_two_branch", False))}
    if layers:
        own |= {"refinement": True, "refinement_layers": layers}
        own |= {"refinement_heads": int(config.get("refinement_heads", 8))}
    return ClipIqaConfig(clip=clip, heads=HeadsConfig(**own))


def _check(config: Mapping[str, Any]) -> None:
    for name in config:
        if name not in (*_OWN, *_RATES):
            raise unknown_name("field of the config", name, (*_OWN, *_RATES))


def _refined(
    tree: Mapping[str, Any], change: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """The tree with its refinement changed; CLIP's own attentions are packed in ours too."""
    return {name: change(b) if name == REFINEMENT else b for name, b in tree.items()}


def _template(config: ClipIqaConfig) -> dict[str, Any]:
    """Arrays with the shapes and dtypes of the parameters."""
    shapes = jax.eval_shape(ClipIqa(config).init_params, jax.random.key(0))
    return jax.tree.map(lambda s: np.broadcast_to(np.zeros((), s.dtype), s.shape), shapes)
