"""Predicted hands as the original image shows them: left ones mirrored back."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrecipes.camera import project, turn_to_axis
from jaxrecipes.data.hand_shards import HandClips
from jaxrecipes.models.hand_joints import JOINT_NAMES, NUM_ROTATIONS
from jaxrecipes.recipes.hand_pose.config import HandRunConfig
from jaxrecipes.rotations import axis_angle_to_matrix, matrix_to_axis_angle, to_axis_angle


def prediction_columns(
    config: HandRunConfig, clips: HandClips, outputs: Any
) -> dict[str, Sequence[Any]]:
    """The hand of each clip's last frame, in the camera of the original image.

    Returns:
      `key`; `hand` (left or right); `Wrist_x`, `_y`, `_z` (mm; x right, y down, z ahead) and `_u`,
      `_v` (px) of each of `JOINT_NAMES`; `root_x`, `root_y`, `root_z`, the wrist as the network
      gives it, with `norm_by_hand` in hand scales: the joints are that times the labelled scale;
      `pose_0` to `pose_47` (MANO's rotations, axis-angle in radians, of the hand as it is) and
      `betas_0` to `betas_9`.
    """
    last = {
        name: np.asarray(outputs[name], np.float32)[:, -1]
        for name in ("joint_cam", "trans", "pose", "betas")
    }
    given = {
        name: np.asarray(clips.arrays[name])[:, -1] for name in ("focal", "princpt", "hand_bbox")
    }
    left = np.asarray(clips.arrays["left"]) > 0.5
    joints = _mirrored(last["joint_cam"], left)
    root = _mirrored(last["trans"], left)
    pose = np.asarray(to_axis_angle(jnp.asarray(last["pose"]), config.network.joint_type))
    pose = pose.reshape(len(pose), NUM_ROTATIONS, 3)
    pose = np.where(left[:, None, None], pose * np.array([1.0, -1.0, -1.0]), pose)
    if config.augment.perspective_normalization:
        box = given["hand_bbox"]
        ahead = turn_to_axis((box[:, :2] + box[:, 2:]) / 2, given["focal"], given["princpt"])
        back = np.asarray(ahead).swapaxes(-1, -2)
        joints = np.einsum("nij,nkj->nki", back, joints)
        root = np.einsum("nij,nj->ni", back, root)
        turned = back @ np.asarray(axis_angle_to_matrix(jnp.asarray(pose[:, 0])))
        pose[:, 0] = np.asarray(matrix_to_axis_angle(jnp.asarray(turned)))
    focal, princpt = given["focal"][:, None], given["princpt"][:, None]
    points = np.concatenate([joints, np.asarray(project(joints, focal, princpt))], axis=-1)

    columns: dict[str, Sequence[Any]] = {
        "key": clips.keys.tolist(),
        "hand": np.where(left, "left", "right").tolist(),
    }
    for i, joint in enumerate(JOINT_NAMES):
        for j, axis in enumerate(("x", "y", "z", "u", "v")):
            columns[f"{joint}_{axis}"] = [f"{value:.3f}" for value in points[:, i, j]]
    for j, axis in enumerate("xyz"):
        columns[f"root_{axis}"] = _numbers(root[:, j])
    for name, values in (("pose", pose.reshape(len(pose), -1)), ("betas", last["betas"])):
        for j in range(values.shape[1]):
            columns[f"{name}_{j}"] = _numbers(values[:, j])
    return columns


def _mirrored(points: np.ndarray, left: np.ndarray) -> np.ndarray:
    """`[N, ..., 3]` with the x of left hands negated."""
    signs = np.where(left[:, None], np.array([-1.0, 1.0, 1.0]), 1.0)
    return points * signs.reshape(len(left), *[1] * (points.ndim - 2), 3)


def _numbers(values: np.ndarray) -> list[str]:
    return [f"{value:.5f}" for value in values]
