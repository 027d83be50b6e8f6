"""Predicted hands as the original image shows them: left ones mirrored back."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipes.broadcasting import aligned
from jaxrecipes.compile_quickly import run_once
from jaxrecipes.models.hand.camera import project, turn_to_axis
from jaxrecipes.models.hand.joints import JOINT_NAMES, NUM_ROTATIONS
from jaxrecipes.models.hand.rotations import (
    JointType,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    to_axis_angle,
)
from jaxrecipes.recipes.hand_pose.config import HandRunConfig
from jaxrecipes.recipes.hand_pose.shards import HandClips

_OUTPUTS = ("joint_cam", "trans", "pose", "betas")
_CAMERA = ("focal", "princpt", "hand_bbox")
_HIGHEST = jax.lax.Precision.HIGHEST


def prediction_columns(
    config: HandRunConfig, clips: HandClips, outputs: Any
) -> dict[str, Sequence[Any]]:
    """The hand of each clip's last frame, in the camera of the original image.

    Returns:
      `key`; `hand` (left or right); `Wrist_x`, `_y`, `_z` (mm; x right, y down, z ahead) and `_u`,
      `_v` (px) of each of `JOINT_NAMES`; `root_x`, `root_y`, `root_z`, the wrist as the network
      gives it, with `norm_by_hand` in hand scales: the joints are that times the labelled scale, or
      the predicted hand's own where none is labelled;
      `pose_0` to `pose_47` (MANO's rotations, axis-angle in radians, of the hand as it is) and
      `betas_0` to `betas_9`.
    """
    arrays = {
        **{name: np.asarray(outputs[name], np.float32)[:, -1] for name in _OUTPUTS},
        **{name: np.asarray(clips.arrays[name])[:, -1] for name in _CAMERA},
        "left": np.asarray(clips.arrays["left"]),
    }
    hands = run_once(
        lambda arrays: _original(
            arrays,
            joint_type=config.network.joint_type,
            normalized=config.augment.perspective_normalization,
        ),
        arrays,
    )
    points, root, pose = (np.asarray(hand) for hand in hands)

    columns: dict[str, Sequence[Any]] = {
        "key": clips.keys.tolist(),
        "hand": np.where(arrays["left"] > 0.5, "left", "right").tolist(),
    }
    for i, joint in enumerate(JOINT_NAMES):
        for j, axis in enumerate(("x", "y", "z", "u", "v")):
            columns[f"{joint}_{axis}"] = [f"{value:.3f}" for value in points[:, i, j]]
    for j, axis in enumerate("xyz"):
        columns[f"root_{axis}"] = _numbers(root[:, j])
    for name, values in (("pose", pose), ("betas", arrays["betas"])):
        for j in range(values.shape[1]):
            columns[f"{name}_{j}"] = _numbers(values[:, j])
    return columns


def _original(
    arrays: Mapping[str, jax.Array], *, joint_type: JointType, normalized: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Joints `[N, 21, 5]` (mm, px), root `[N, 3]` and pose `[N, 48]` axis-angle."""
    left = arrays["left"][:, None] > 0.5
    joints = _signed(arrays["joint_cam"], left[..., None], (-1.0, 1.0, 1.0))
    root = _signed(arrays["trans"], left, (-1.0, 1.0, 1.0))
    pose = to_axis_angle(arrays["pose"], joint_type)
    pose = _signed(pose, left, (1.0, -1.0, -1.0) * NUM_ROTATIONS)
    focal, princpt = arrays["focal"], arrays["princpt"]
    if normalized:
        box = arrays["hand_bbox"]
        ahead = turn_to_axis((box[:, :2] + box[:, 2:]) / 2, focal, princpt)
        # Points are rows here, so that this turns them back.
        joints = jnp.matmul(joints, ahead, precision=_HIGHEST)
        root = jnp.matmul(root[:, None], ahead, precision=_HIGHEST)[:, 0]
        turned = jnp.matmul(
            jnp.swapaxes(ahead, -1, -2), axis_angle_to_matrix(pose[:, :3]), precision=_HIGHEST
        )
        pose = jnp.concatenate([matrix_to_axis_angle(turned), pose[:, 3:]], axis=-1)
    pixels = project(joints, focal[:, None], princpt[:, None])
    return jnp.concatenate([joints, pixels], axis=-1), root, pose


def _signed(x: jax.Array, left: jax.Array, signs: tuple[float, ...]) -> jax.Array:
    """Left hands times the signs."""
    return jnp.where(left, x * aligned(jnp.array(signs, x.dtype), x), x)


def _numbers(values: np.ndarray) -> list[str]:
    return [f"{value:.5f}" for value in values]
