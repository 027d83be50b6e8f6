"""A hand network's outputs in millimetres and pixels, and the terms of its loss.

Arrays are `[B, T, ...]`, clips of T frames. Joints are the 21 of `models.hand.joints`, the wrist
first. Terms are given per clip, so that `composite_loss` can weight and mask them.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from jaxrecipes.losses.heatmap import heatmap_cross_entropy
from jaxrecipes.losses.robust import absolute, robust_l1
from jaxrecipes.models.hand.camera import project
from jaxrecipes.models.hand.joints import NORM_JOINTS
from jaxrecipes.models.hand.model import HandModel, hand_geometry
from jaxrecipes.models.hand.rotations import JointType, to_axis_angle

Array = jax.Array
Arrays = Mapping[str, Array]

_CHAIN = list(NORM_JOINTS)


def hand_scale(
    joint_cam: Array,
    joint_valid: Array,
    norm_eps: Array | float = 0.0,
    *,
    norm_by_hand: bool = True,
) -> tuple[Array, Array]:
    """The length of the middle finger's chain, in which root positions are measured.

    Args:
      joint_cam: `[..., 21, 3]` true joints, mm.
      joint_valid: `[..., 21]`, above 0.5 = known.
      norm_eps: the smallest length, which is also added to it; may be traced.
      norm_by_hand: without it root positions are in mm: the scale is 1, and always known.

    Returns:
      The scale in mm and whether its four joints are all known (1 or 0), `[...]` float32 each,
      without a gradient.
    """
    if not norm_by_hand:
        one = jnp.ones(joint_valid.shape[:-1], jnp.float32)
        return one, one
    chain = jax.lax.stop_gradient(joint_cam[..., _CHAIN, :].astype(jnp.float32))
    length = jnp.linalg.norm(jnp.diff(chain, axis=-2), axis=-1).sum(axis=-1)
    known = (joint_valid[..., _CHAIN] > 0.5).all(axis=-1)
    return jnp.maximum(length, norm_eps) + norm_eps, known.astype(jnp.float32)


def hand_predictions(
    model: HandModel,
    outputs: Arrays,
    batch: Arrays,
    *,
    fk_grad: bool = True,
    norm_eps: Array | float = 1e-6,
    joint_type: JointType = "3",
    norm_by_hand: bool = True,
) -> dict[str, Array]:
    """The predicted hand in the camera's space and in the image.

    If the root is predicted in hand scales, it is converted to millimetres with the true scale.

    Args:
      model: the hand.
      outputs: of the network: `pose` `[B, T, 16 * numbers of a rotation]`, `betas` `[B, T, 10]` and
        `trans` `[B, T, 3]`.
      batch: `joint_cam` and `joint_valid`, for the scale; `focal` and `princpt` `[B, T, 2]` px.
      fk_grad: whether gradients flow from joints and vertices to the pose; to the shape they never
        do.
      norm_eps: see `hand_scale`.
      norm_by_hand: see `hand_scale`.
      joint_type: how `pose` holds rotations.

    Returns:
      `joint_rel`, `joint_cam` `[B, T, 21, 3]` and `verts_rel`, `verts_cam` `[B, T, V, 3]` in mm,
      relative to the wrist and to the camera; `joint_img` `[B, T, 21, 2]` px.
    """
    pose = to_axis_angle(outputs["pose"].astype(jnp.float32), joint_type)
    betas = jax.lax.stop_gradient(outputs["betas"].astype(jnp.float32))
    geometry = hand_geometry(model, pose if fk_grad else jax.lax.stop_gradient(pose), betas)
    scale, _ = hand_scale(
        batch["joint_cam"], batch["joint_valid"], norm_eps, norm_by_hand=norm_by_hand
    )
    root = (outputs["trans"].astype(jnp.float32) * scale[..., None])[..., None, :]
    joint_cam = geometry.joint_rel + root
    return {
        "joint_rel": geometry.joint_rel,
        "verts_rel": geometry.verts_rel,
        "joint_cam": joint_cam,
        "verts_cam": geometry.verts_rel + root,
        "joint_img": _projected(joint_cam, batch),
    }


def hand_targets(
    model: HandModel, batch: Arrays, *, joint_type: JointType = "3"
) -> dict[str, Array]:
    """The labels under the names of `hand_predictions`.

    Vertices are those of the labelled pose and shape at the labelled root; image points are the
    labelled joints projected, not the annotated ones.

    Args:
      model: the hand.
      batch: `mano_pose`, `mano_shape`, `joint_cam`, `joint_rel`, `focal`, `princpt`.
      joint_type: how `mano_pose` holds rotations.
    """
    pose = to_axis_angle(batch["mano_pose"].astype(jnp.float32), joint_type)
    geometry = hand_geometry(model, pose, batch["mano_shape"].astype(jnp.float32))
    return {
        "joint_rel": batch["joint_rel"],
        "verts_rel": geometry.verts_rel,
        "joint_cam": batch["joint_cam"],
        "verts_cam": geometry.verts_rel + batch["joint_cam"][..., :1, :],
        "joint_img": _projected(batch["joint_cam"], batch),
    }


def hand_terms(
    outputs: Arrays,
    predictions: Arrays,
    batch: Arrays,
    *,
    centers: Sequence[Array] | None,
    heatmap_sigma: Array | float = 0.09,
    norm_eps: Array | float = 1e-6,
    norm_by_hand: bool = True,
    reproj_delta: Array | float | None = None,
    reduction: Literal["all", "valid"] = "all",
) -> dict[str, Array]:
    """The five terms of the loss, per clip and without their weights.

    Args:
      outputs: of the network: `pose`, `betas`, `trans`, and `log_heatmap_x|y|z` `[B, T, K]`.
      predictions: of `hand_predictions`.
      batch: `mano_pose` (as `pose` is), `mano_shape`, `mano_valid`, `joint_cam`, `joint_rel`,
        `joint_valid`, `focal`, `princpt`; `mask` `[B]` (1 = keep) where there is padding.
      centers: of the heatmaps' bins, x, y, z, in the unit of `trans`. With None the root's term is
        the absolute error of `trans`.
      heatmap_sigma: see `losses.heatmap`.
      norm_eps: see `hand_scale`.
      norm_by_hand: see `hand_scale`.
      reproj_delta: pixels from which on `robust_l1` damps the image term; None = plain L1.
      reduction: "all" divides by the number of elements, unlabelled ones included (as the original
        does); "valid" by the number of labelled ones in the batch.

    Returns:
      `theta`, `shape` (absolute errors), `trans`, `joint_rel` (mm) and `joint_img` (px), `[B]`
      float32 each: their mean over the unmasked clips is the term.
    """
    joint_cam, joint_valid = batch["joint_cam"], batch["joint_valid"].astype(jnp.float32)
    mano_valid = batch["mano_valid"].astype(jnp.float32)[..., None]
    scale, scale_valid = hand_scale(joint_cam, joint_valid, norm_eps, norm_by_hand=norm_by_hand)
    root_valid = joint_valid[..., 0] * scale_valid
    joint_img = _projected(joint_cam, batch)
    image_valid = joint_valid * scale_valid[..., None]

    root = joint_cam[..., 0, :] / jnp.where(scale > 0, scale, 1.0)[..., None]
    root = jnp.where(root_valid[..., None] > 0, root, 0.0)
    if centers is None:
        trans, trans_valid = _residual(outputs["trans"], root, root_valid[..., None])
        trans = absolute(trans)
    else:
        trans_valid = root_valid
        x, y, z = (
            heatmap_cross_entropy(
                outputs[f"log_heatmap_{axis}"], root[..., i], centers[i], sigma=heatmap_sigma
            )
            for i, axis in enumerate("xyz")
        )
        trans = x + y + z

    theta, theta_valid = _residual(outputs["pose"], batch["mano_pose"], mano_valid)
    shape, shape_valid = _residual(outputs["betas"], batch["mano_shape"], mano_valid)
    rel, rel_valid = _residual(predictions["joint_rel"], batch["joint_rel"], joint_valid[..., None])
    image, joint_img_valid = _residual(predictions["joint_img"], joint_img, image_valid[..., None])
    image = absolute(image) if reproj_delta is None else robust_l1(image, delta=reproj_delta)
    errors = {
        "theta": (absolute(theta), theta_valid),
        "shape": (absolute(shape), shape_valid),
        "trans": (trans, trans_valid),
        "joint_rel": (absolute(rel), rel_valid),
        "joint_img": (image, joint_img_valid),
    }
    mask = batch.get("mask")
    return {
        name: _per_clip(error, valid, mask, reduction) for name, (error, valid) in errors.items()
    }


def _projected(joint_cam: Array, batch: Arrays) -> Array:
    return project(joint_cam, batch["focal"][..., None, :], batch["princpt"][..., None, :])


def _residual(pred: Array, target: Array, valid: Array) -> tuple[Array, Array]:
    """The difference, 0 where unlabelled (even if it is NaN there), and `valid` broadcast."""
    valid = jnp.broadcast_to(valid, target.shape)
    return jnp.where(valid > 0, pred.astype(jnp.float32) - target, 0.0), valid


def _per_clip(error: Array, valid: Array, mask: Array | None, reduction: str) -> Array:
    axes = tuple(range(1, error.ndim))
    total = (error * valid).sum(axes)
    if reduction == "all":
        return total / (error.size // len(error))
    counts = valid.sum(axes)
    kept = jnp.ones_like(counts, bool) if mask is None else mask > 0
    # This makes the mean over the kept clips the sum of errors over the number of labels.
    return (
        total * kept.sum(dtype=jnp.float32) / jnp.maximum(jnp.where(kept, counts, 0.0).sum(), 1.0)
    )
