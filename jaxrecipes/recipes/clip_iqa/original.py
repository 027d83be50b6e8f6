"""Weights of the original clip_iqa program, without PyTorch, and as runs of ours, both ways.

Its files hold weights alone: no optimizer, no settings, no epoch.
"""

import functools
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxrecipes.convert.file_fields import naming, telling
from jaxrecipes.convert.reader import load_torch
from jaxrecipes.convert.rules import ConversionError, dump_tensors, load_tensors, unwrapped
from jaxrecipes.convert.weight_files import read_json
from jaxrecipes.errors import unknown_name
from jaxrecipes.models.clip.config import ClipConfig
from jaxrecipes.models.clip.config_files import from_huggingface, from_shapes
from jaxrecipes.models.clip.rules import clean
from jaxrecipes.recipes.clip_iqa.config import SIZES, ClipSource, FreezeConfig, IqaRunConfig
from jaxrecipes.recipes.clip_iqa.network import ClipIqa
from jaxrecipes.recipes.clip_iqa.network_config import ClipIqaConfig, HeadsConfig
from jaxrecipes.recipes.clip_iqa.original_rules import REFINEMENT, clip_iqa_rules
from jaxrecipes.recipes.clip_iqa.recipe import make_recipe
from jaxrecipes.runs.torch_runs import host, imported_run, save_run, write_torch
from jaxrecipes.runs.trained import Trained, Weights

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
    params = load_tensors(clip_iqa_rules(config), state_dict, _template(config))
    return ClipIqa(config), params, {}


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
    return dump_tensors(clip_iqa_rules(config), {**params, **batch_stats})


def import_torch(source: pathlib.Path, workdir: pathlib.Path, *, use_torch: bool = False) -> None:
    """Turns a `.pt` file of the original into a run's folder, at step 0.

    Sizes are told by the tensors, frozen layers by the file's name. What neither tells is taken to
    be the original's default: quick-GELU, heads of 64 channels, residual scales of 0.2; a
    config.json of Hugging Face beside the file has precedence for CLIP.

    Args:
      source: the `.pt` file.
      workdir: the folder to make.
      use_torch: let PyTorch read a file that the library's own safe reader cannot.

    Raises:
      ValueError: not such a file, tensors that do not fit, or a folder that holds a run already.
    """
    loaded = load_torch(source, use_torch=use_torch)
    with naming(source):
        state_dict = clean(unwrapped(loaded))
    if "rationale_head.1.weight" not in state_dict:
        holds = [key[:40] for key in loaded][:6]
        raise ValueError(
            f"{source} holds no weights of the clip_iqa program: expected rationale_head.1.weight "
            f"among its keys, got {holds}"
        )
    beside = source.with_name("config.json")
    known = {"clip_config": read_json(beside)} if beside.exists() else {}
    with naming(source), telling("its architecture"):
        network = network_config(state_dict, known)
    with naming(source):
        _, params, _ = from_torch(state_dict, network)
    config = IqaRunConfig(
        clip=_source(network.clip), heads=network.heads, freeze=_freeze(source.name)
    )
    save_run(workdir, imported_run(source, config, make_recipe, params, {}))


def export_torch(trained: Trained, target: pathlib.Path, *, weights: Weights = "auto") -> None:
    """Writes a `.pt` file that the original loads with strict key checking.

    Args:
      trained: the checkpoint.
      target: the file to write; or a folder, in which it gets the original's name.
      weights: averaged ones or not.
    """
    config = trained.config
    params, batch_stats = host(trained.weights(weights))
    if target.suffix not in (".pt", ".pth"):
        target = target / file_name(config)
    content = to_torch(params, batch_stats, config.network)
    write_torch(trained, target, content, weights=weights)


def file_name(config: IqaRunConfig) -> str:
    """What the original calls the best weights of a run with these settings."""
    if config.heads.mode == "traditional":
        return f"baseline{'_refinement' if config.heads.refinement else ''}_best.pt"
    if config.freeze.mode == "partial":
        return f"baseline_residual_partial_freeze_{config.freeze.layers}L_best.pt"
    return "baseline_residual_best.pt"


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


@functools.cache
def _template(config: ClipIqaConfig) -> dict[str, Any]:
    """Shapes and dtypes of the parameters."""
    return jax.eval_shape(ClipIqa(config).init_params, jax.random.key(0))


def _source(clip: ClipConfig) -> ClipSource:
    for size in SIZES:
        published: dict[str, Any] = {"size": size, "activation": clip.vision.activation}
        if ClipSource(**published).architecture == clip:
            # The run goes on from its own checkpoint, so it needs no weights.
            return ClipSource(**published, from_scratch=True)
    return ClipSource(size="custom", custom=clip)


def _freeze(name: str) -> FreezeConfig:
    found = re.search(r"partial_freeze_(\d+)L", name)
    return FreezeConfig(mode="partial", layers=int(found[1])) if found else FreezeConfig()
