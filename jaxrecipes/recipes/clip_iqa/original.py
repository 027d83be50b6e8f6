"""Weights of the original clip_iqa program as runs of ours, and back.

Its files hold weights alone: no optimizer, no settings, no epoch.
"""

import dataclasses
import logging
import pathlib
import re
from typing import Any

import jax

from jaxrecipes.convert import load_torch, save_torch
from jaxrecipes.convert.file_fields import naming, telling
from jaxrecipes.convert.rules import unwrapped
from jaxrecipes.convert.weight_files import read_json
from jaxrecipes.models.clip.config import ClipConfig
from jaxrecipes.models.clip.rules import clean
from jaxrecipes.recipes.clip_iqa import original_weights as clip_iqa
from jaxrecipes.recipes.clip_iqa.config import SIZES, ClipSource, FreezeConfig, IqaRunConfig
from jaxrecipes.recipes.clip_iqa.original_weights import from_torch, to_torch
from jaxrecipes.recipes.clip_iqa.recipe import make_recipe
from jaxrecipes.runs.torch_runs import history_entry, host, save_run
from jaxrecipes.runs.trained import Trained, Weights
from jaxrecipes.train.recipe import DataInfo
from jaxrecipes.train.state import create_state

__all__ = ["export_torch", "file_name", "from_torch", "import_torch", "to_torch"]

_log = logging.getLogger("jaxrecipes")


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
        network = clip_iqa.network_config(state_dict, known)
    with naming(source):
        _, params, _ = clip_iqa.from_torch(state_dict, network)
    config = IqaRunConfig(
        clip=_source(network.clip), heads=network.heads, freeze=_freeze(source.name)
    )
    recipe = dataclasses.replace(
        make_recipe(config, DataInfo(steps_per_epoch=1)), init=lambda key: (params, {})
    )
    state = create_state(recipe, jax.random.key(config.seed))
    save_run(
        workdir,
        config,
        recipe,
        jax.tree.map(jax.numpy.asarray, state),
        steps_per_epoch=1,
        history=[history_entry(0, 0, {}, {})],
        score=None,
    )
    _log.info("%s: weights, now in %s", source, workdir)


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
    target.parent.mkdir(parents=True, exist_ok=True)
    save_torch(target, clip_iqa.to_torch(params, batch_stats, config.network))
    _log.info("%s: weights of step %d", target, trained.step)


def file_name(config: IqaRunConfig) -> str:
    """What the original calls the best weights of a run with these settings."""
    if config.heads.mode == "traditional":
        return f"baseline{'_refinement' if config.heads.refinement else ''}_best.pt"
    if config.freeze.mode == "partial":
        return f"baseline_residual_partial_freeze_{config.freeze.layers}L_best.pt"
    return "baseline_residual_best.pt"


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
