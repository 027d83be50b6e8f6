"""Files of the original hand_pose program, without PyTorch: weights, and runs from and to them.

Its `model.safetensors` holds the weights and, twice, its hand, MANO; the name of the folder,
`checkpoint-STEP`, says how far the run was. MANO's licence does not allow passing it on, so
`from_torch` and `to_torch` leave it out; `import_torch` keeps it beside the run for the user's own
use.
"""

import logging
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipes.convert.file_fields import naming, telling
from jaxrecipes.convert.rules import ConversionError, dump_tensors, load_variables, unwrapped
from jaxrecipes.convert.safetensors import save_safetensors
from jaxrecipes.convert.weight_files import read_state_dict
from jaxrecipes.models.dinov2.config import Dinov2Config, dinov2_config
from jaxrecipes.recipes.hand_pose.config import BackboneSource, HandRunConfig, HandSource
from jaxrecipes.recipes.hand_pose.network import HandPose, hand_inputs
from jaxrecipes.recipes.hand_pose.network_config import HandPoseConfig
from jaxrecipes.recipes.hand_pose.original_config import network_config
from jaxrecipes.recipes.hand_pose.original_hand import (
    stored_hand,
    with_hand,
    without_hand,
    write_hand,
)
from jaxrecipes.recipes.hand_pose.original_rules import hand_pose_buffers, hand_pose_rules
from jaxrecipes.recipes.hand_pose.recipe import make_recipe
from jaxrecipes.recipes.hand_pose.sources import hand_model
from jaxrecipes.runs.torch_runs import host, imported_run, save_run
from jaxrecipes.runs.trained import Trained, Weights

_log = logging.getLogger("jaxrecipes")

_QUERY = "handec.init_hand_pose"
_REFINER = "temporal_refiner."
_TOLERANCE = 1e-4


def from_torch(
    state_dict: Mapping[str, np.ndarray], config: Mapping[str, Any] | HandPoseConfig
) -> tuple[HandPose, dict[str, Any], dict[str, Any]]:
    """(model, params, batch_stats) of a state dict of the original; see `jaxrecipes.convert`.

    The arrays of MANO and of the loss are left out, as are the refiner's unless `config` is of
    stage 2.

    Args:
      state_dict: the original's, with or without the arrays of its loss object.
      config: a `HandPoseConfig`, or the original's configuration, either whole or its part MODEL.
        It need not repeat what the shapes show. They do not show the numbers of heads (by default
        heads have 64 channels each, and the refiner has 16) or whether this is stage 2.

    Raises:
      ConversionError: also for weights whose bins, rays or image statistics are not those of
        `config`.
    """
    state_dict = without_hand(unwrapped(state_dict))
    if not isinstance(config, HandPoseConfig):
        with telling("the architecture"):
            config = network_config(state_dict, config)
    buffers = hand_pose_buffers(config)
    _check_buffers(buffers, state_dict)
    kept = {
        key: array
        for key, array in state_dict.items()
        if key not in buffers and (config.temporal is not None or not key.startswith(_REFINER))
    }
    if _QUERY in kept:
        kept[_QUERY] = np.reshape(kept[_QUERY], (1, -1))
    return HandPose(config), *load_variables(hand_pose_rules(config), kept, template(config))


def to_torch(
    params: Mapping[str, Any],
    batch_stats: Mapping[str, Any],
    config: Mapping[str, Any] | HandPoseConfig,
) -> dict[str, np.ndarray]:
    """The original's state dict without its hand; see `jaxrecipes.convert`.

    Raises:
      ValueError: also if `config` is not a `HandPoseConfig`, which alone gives the sizes.
    """
    if not isinstance(config, HandPoseConfig):
        raise ValueError(
            "hand_pose needs a HandPoseConfig to write weights, such as that of the model that "
            f"from_torch gives; got {type(config).__name__}"
        )
    variables = {"params": params, "batch_stats": batch_stats}
    state_dict = dump_tensors(hand_pose_rules(config), variables) | hand_pose_buffers(config)
    if config.joint_type == "6d" and config.handec.use_mean_init is not None:
        state_dict[_QUERY] = state_dict[_QUERY][0]
    return state_dict


def template(config: HandPoseConfig) -> dict[str, Any]:
    """Shapes and dtypes of the variables."""
    network, inputs = HandPose(config), hand_inputs(config)
    return jax.eval_shape(
        lambda key, x: network.init(key, x, train=False), jax.random.key(0), inputs
    )


def import_torch(source: pathlib.Path, workdir: pathlib.Path, *, use_torch: bool = False) -> None:
    """Turns `model.safetensors` of the original, or its folder, into a run's folder.

    Schedules go on at the step that the folder's name gives (0 if it gives none); moments begin
    anew. What the tensors do not show is taken to be the original's default. The hand in the file,
    which is licensed and must not be passed on, is written beside the run as `hand.npz`; without
    one the run goes on with the procedural hand until `--hand.file` names a MANO file.

    Args:
      source: the file or folder.
      workdir: the folder to make.
      use_torch: let PyTorch read a file that the library's own safe reader cannot.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: tensors that do not fit, or a folder that holds a run already.
    """
    file = source / "model.safetensors" if source.is_dir() else source
    if not file.exists():
        raise FileNotFoundError(
            f"{file} does not exist; weights of the original are the file model.safetensors in a "
            "folder checkpoint-STEP of a run"
        )
    with naming(file):
        state_dict = read_state_dict(file, use_torch=use_torch)
        model, params, batch_stats = from_torch(state_dict, {})
    config = HandRunConfig(
        backbone=_source(model.config.backbone),
        model=model.config,
        hand=_keep_hand(file, state_dict, workdir),
    )
    run = imported_run(source, config, make_recipe, params, batch_stats)
    save_run(workdir, run.with_state(step=jnp.int32(_step(file))))


def export_torch(trained: Trained, target: pathlib.Path, *, weights: Weights = "auto") -> None:
    """Writes `model.safetensors`, with the hand of `hand.file` where the run has one.

    Without a hand, the original loads the file with `strict=False` and keeps the hand that it was
    built with.

    Args:
      trained: the checkpoint.
      target: the file to write; or a folder, in which it gets the original's name.
      weights: averaged ones or not.
    """
    config = trained.config
    params, batch_stats = host(trained.weights(weights))
    if target.suffix != ".safetensors":
        target = target / f"checkpoint-{trained.step}" / "model.safetensors"
    state_dict = to_torch(params, batch_stats, config.network)
    if config.hand.file is not None:
        state_dict = with_hand(state_dict, hand_model(config.hand))
    target.parent.mkdir(parents=True, exist_ok=True)
    save_safetensors(target, state_dict, metadata={"format": "pt"})
    _log.info("%s: weights of step %d", target, trained.step)


def _check_buffers(buffers: Mapping[str, np.ndarray], state_dict: Mapping[str, np.ndarray]) -> None:
    """Compares the original's buffers, where they are, with what the configuration implies."""
    wrong = []
    for key, want in buffers.items():
        got = np.asarray(state_dict.get(key, want))
        if got.shape != want.shape:
            wrong.append(f"{key}: expected the shape {want.shape}, got {got.shape}")
        elif np.abs(got - want).max() > _TOLERANCE * np.abs(want).max():
            wrong.append(f"{key}: expected {want.ravel()[0]} first, got {got.ravel()[0]}")
    if wrong:
        raise ConversionError(
            "the weights were trained with other constants than the configuration has: "
            + "; ".join(wrong)
        )


def _keep_hand(
    file: pathlib.Path, state_dict: Mapping[str, np.ndarray], workdir: pathlib.Path
) -> HandSource:
    try:
        hand = stored_hand(state_dict)
    except ConversionError:
        _log.warning("%s holds no hand: the run goes on with the procedural one", file)
        return HandSource()
    workdir = workdir.resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    kept = HandSource(file=str(workdir / "hand.npz"), joint_regressor=str(workdir / "joints.npy"))
    write_hand(str(kept.file), hand, regressor=str(kept.joint_regressor))
    return kept


def _step(file: pathlib.Path) -> int:
    found = re.fullmatch(r"checkpoint-(\d+)", file.resolve().parent.name)
    if found is None:
        _log.warning("%s is not in a folder checkpoint-STEP: taken to be at step 0", file)
    return int(found[1]) if found else 0


def _source(backbone: Dinov2Config) -> BackboneSource:
    for size in ("vit_s_14", "vit_b_14", "vit_l_14", "vit_g_14"):
        if dinov2_config(size, num_registers=backbone.num_registers) == backbone:
            # The run goes on from its own checkpoint, so it needs no weights.
            return BackboneSource(
                size=size, num_registers=4 if backbone.num_registers else 0, from_scratch=True
            )
    return BackboneSource(size="custom")
