"""Weights of the original hand_pose program as runs of ours, and back.

Its `model.safetensors` holds weights and a hand; the folder's name, `checkpoint-STEP`, says how far
the run was.
"""

import dataclasses
import logging
import pathlib
import re

import jax
import jax.numpy as jnp

from jaxrecipes.convert.rules import ConversionError
from jaxrecipes.convert.weight_files import read_state_dict
from jaxrecipes.models.dinov2.config import Dinov2Config, dinov2_config
from jaxrecipes.recipes.hand_pose.config import BackboneSource, HandRunConfig, HandSource
from jaxrecipes.recipes.hand_pose.original_hand import hand_model as stored_hand
from jaxrecipes.recipes.hand_pose.original_hand import write_hand
from jaxrecipes.recipes.hand_pose.original_weights import (
    from_torch,
    read_hand_pose,
    to_torch,
    write_hand_pose,
)
from jaxrecipes.recipes.hand_pose.recipe import make_recipe
from jaxrecipes.recipes.hand_pose.sources import hand_model
from jaxrecipes.runs.torch_runs import history_entry, host, save_run
from jaxrecipes.runs.trained import Trained, Weights
from jaxrecipes.train.recipe import DataInfo
from jaxrecipes.train.state import create_state

__all__ = ["export_torch", "from_torch", "import_torch", "to_torch"]

_log = logging.getLogger("jaxrecipes")


def import_torch(source: pathlib.Path, workdir: pathlib.Path, *, use_torch: bool = False) -> None:
    """Turns `model.safetensors` of the original, or its folder, into a run's folder.

    Schedules go on at the step that the folder's name tells (0 if none); moments begin anew. What
    the tensors do not tell is the original's default. The hand in the file, which is licensed and
    not to be passed on, is written beside the run as `hand.npz`; without one the run goes on with
    the procedural hand until `--hand.file` names a MANO file.

    Args:
      source: the file or folder.
      workdir: the folder to make.
      use_torch: let PyTorch read a file that the library's own safe reader cannot.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: tensors that do not fit, or a folder that holds a run already.
    """
    network, params, batch_stats = read_hand_pose(source, use_torch=use_torch)
    config = HandRunConfig(
        backbone=_source(network.backbone),
        model=network,
        hand=_keep_hand(source, workdir, use_torch=use_torch),
    )
    recipe = dataclasses.replace(
        make_recipe(config, DataInfo(steps_per_epoch=1)), init=lambda key: (params, batch_stats)
    )
    state = create_state(recipe, jax.random.key(config.seed))
    step = _step(source)
    save_run(
        workdir,
        config,
        recipe,
        jax.tree.map(jnp.asarray, state).replace(step=jnp.int32(step)),
        steps_per_epoch=1,
        history=[history_entry(0, step, {}, {})],
        score=None,
    )
    _log.info("%s: weights at step %d, now in %s", source, step, workdir)


def export_torch(trained: Trained, target: pathlib.Path, *, weights: Weights = "auto") -> None:
    """Writes `model.safetensors`, with the hand of `hand.file` where the run has one.

    Args:
      trained: the checkpoint.
      target: the file to write; or a folder, in which it gets the original's name.
      weights: averaged ones or not.
    """
    config = trained.config
    params, batch_stats = host(trained.weights(weights))
    if target.suffix != ".safetensors":
        target = target / f"checkpoint-{trained.step}" / "model.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    hand = None if config.hand.file is None else hand_model(config.hand)
    write_hand_pose(target, config.network, params, batch_stats, hand=hand)
    _log.info("%s: weights of step %d", target, trained.step)


def _keep_hand(source: pathlib.Path, workdir: pathlib.Path, *, use_torch: bool) -> HandSource:
    file = source / "model.safetensors" if source.is_dir() else source
    try:
        hand = stored_hand(read_state_dict(file, use_torch=use_torch))
    except ConversionError:
        _log.warning("%s holds no hand: the run goes on with the procedural one", file)
        return HandSource()
    workdir = workdir.resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    kept = HandSource(file=str(workdir / "hand.npz"), joint_regressor=str(workdir / "joints.npy"))
    write_hand(str(kept.file), hand, regressor=str(kept.joint_regressor))
    return kept


def _step(source: pathlib.Path) -> int:
    folder = source if source.is_dir() else source.parent
    found = re.fullmatch(r"checkpoint-(\d+)", folder.resolve().name)
    if found is None:
        _log.warning("%s is not in a folder checkpoint-STEP: taken to be at step 0", source)
    return int(found[1]) if found else 0


def _source(backbone: Dinov2Config) -> BackboneSource:
    for size in ("vit_s_14", "vit_b_14", "vit_l_14", "vit_g_14"):
        if dinov2_config(size, num_registers=backbone.num_registers) == backbone:
            # The run goes on from its own checkpoint, so it needs no weights.
            return BackboneSource(
                size=size, num_registers=4 if backbone.num_registers else 0, from_scratch=True
            )
    return BackboneSource(size="custom")
