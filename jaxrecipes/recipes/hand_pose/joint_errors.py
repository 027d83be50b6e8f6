"""Errors of predicted hands in millimetres, summed and counted so that batches, padding and devices
do not change them.

"micro" is the sum of errors over the number of joints of the whole set. Arrays are `[B, T, ...]`,
clips of T frames; joints are those of `models.hand.joints`, the wrist first.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxrecipes.metrics import Mean
from jaxrecipes.models.hand.alignment import procrustes_align
from jaxrecipes.recipes.hand_pose.losses import hand_scale

Array = jax.Array
Arrays = Mapping[str, Array]

LEAST_TO_ALIGN = 3  # joints; fewer can be brought to fit whatever they are


def hand_errors(
    predictions: Arrays,
    targets: Arrays,
    batch: Arrays,
    *,
    norm_by_hand: bool = True,
    last_frame: bool = False,
) -> dict[str, Mean]:
    """The five errors that are logged in training and validation, mm.

    What counts: known joints, and labelled vertices, of frames whose hand scale is known (see
    `losses.hand.hand_scale`; in the camera's space it makes millimetres of the prediction). Each
    is NaN where nothing counts.

    Args:
      predictions: of `losses.hand.hand_predictions`.
      targets: of `losses.hand.hand_targets`.
      batch: `joint_cam`, `joint_valid`, `mano_valid`; `mask` `[B]` (1 = keep) where there is
        padding.
      norm_by_hand: see `hand_scale`.
      last_frame: count the last frame of each clip alone.

    Returns:
      `micro_mpjpe` of joints in the camera's space, `micro_mpjpe_rel` of joints relative to the
      wrist, `micro_mpvpe` and `micro_mpvpe_rel` of vertices, `micro_rte` of the wrist.
    """
    joints, frames = _counted(batch, norm_by_hand, last_frame)
    predictions, targets = (_frames(arrays, last_frame) for arrays in (predictions, targets))
    joint_cam = _distance(predictions["joint_cam"], targets["joint_cam"])
    joint_rel = _distance(predictions["joint_rel"], targets["joint_rel"])
    verts_cam = _distance(predictions["verts_cam"], targets["verts_cam"]).mean(axis=-1)
    verts_rel = _distance(predictions["verts_rel"], targets["verts_rel"]).mean(axis=-1)
    return {
        "micro_mpjpe": Mean.from_values(joint_cam, joints),
        "micro_mpjpe_rel": Mean.from_values(joint_rel, joints),
        "micro_mpvpe": Mean.from_values(verts_cam, frames),
        "micro_mpvpe_rel": Mean.from_values(verts_rel, frames),
        "micro_rte": Mean.from_values(joint_cam[..., 0], joints[..., 0]),
    }


def more_hand_errors(
    predictions: Arrays,
    targets: Arrays,
    batch: Arrays,
    *,
    norm_by_hand: bool = True,
    last_frame: bool = False,
    auc_limit: Array | float = 50.0,
) -> dict[str, Mean]:
    """Errors for evaluation, which the original does not have.

    Args:
      predictions: see `hand_errors`, and so for what counts.
      targets: see `hand_errors`.
      batch: see `hand_errors`.
      norm_by_hand: see `hand_scale`.
      last_frame: count the last frame of each clip alone.
      auc_limit: mm up to which the curves of correct joints run; may be traced.

    Returns:
      `pa_mpjpe` (mm): joints after the similarity transform of each frame that fits its known
      joints best; frames with fewer than three do not count. `macro_mpjpe` (mm): the mean over
      clips of each one's `micro_mpjpe`. `pck_auc` and `pa_pck_auc`, in [0, 1]: the area under the
      share of joints within a distance, over distances from 0 to `auc_limit`, relative to the
      wrist and aligned; it is taken exactly, as the mean of `max(0, 1 - error / auc_limit)`.
    """
    joints, _ = _counted(batch, norm_by_hand, last_frame)
    predictions, targets = (_frames(arrays, last_frame) for arrays in (predictions, targets))
    joint_cam = _distance(predictions["joint_cam"], targets["joint_cam"])
    joint_rel = _distance(predictions["joint_rel"], targets["joint_rel"])
    enough = (joints.sum(axis=-1, keepdims=True) >= LEAST_TO_ALIGN).astype(jnp.float32)
    target = jnp.where(joints[..., None] > 0, targets["joint_rel"], 0.0)
    aligned = procrustes_align(predictions["joint_rel"], target, mask=joints)
    joint_aligned = _distance(aligned, target)

    def within(error: Array) -> Array:
        return jnp.maximum(1.0 - error / auc_limit, 0.0)

    counts = joints.sum(axis=(1, 2))
    sums = jnp.where(joints > 0, joint_cam, 0.0).sum(axis=(1, 2))
    return {
        "pa_mpjpe": Mean.from_values(joint_aligned, joints * enough),
        "macro_mpjpe": Mean.from_values(
            sums / jnp.maximum(counts, 1.0), (counts > 0).astype(jnp.float32)
        ),
        "pck_auc": Mean.from_values(within(joint_rel), joints),
        "pa_pck_auc": Mean.from_values(within(joint_aligned), joints * enough),
    }


def _counted(batch: Arrays, norm_by_hand: bool, last_frame: bool) -> tuple[Array, Array]:
    """Which joints `[B, T, 21]` and frames `[B, T]` count, 1 or 0."""
    _, scale_valid = hand_scale(batch["joint_cam"], batch["joint_valid"], norm_by_hand=norm_by_hand)
    if "mask" in batch:
        scale_valid = scale_valid * batch["mask"][:, None]
    joints = batch["joint_valid"] * scale_valid[..., None] > 0.5
    frames = batch["mano_valid"] * scale_valid > 0.5
    counted = _frames({"joints": joints, "frames": frames}, last_frame)
    return counted["joints"].astype(jnp.float32), counted["frames"].astype(jnp.float32)


def _frames(arrays: Arrays, last_frame: bool) -> Arrays:
    arrays = jax.lax.stop_gradient(dict(arrays))
    return {name: x[:, -1:] for name, x in arrays.items()} if last_frame else arrays


def _distance(pred: Array, target: Array) -> Array:
    return jnp.linalg.norm(pred.astype(jnp.float32) - target, axis=-1)
