"""From whole images with labelled hands to what the network reads: crops, boxes and labels.

Everything runs inside the jitted step, on batches of clips `[B, T, ...]`; the geometry that draws
give is in `hand_augment`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxrecipes.broadcasting import aligned
from jaxrecipes.data.augment.bilinear import sample_bilinear
from jaxrecipes.models.hand.camera import transform_points
from jaxrecipes.models.hand.rotations import (
    JointType,
    axis_angle_to_matrix,
    from_axis_angle,
    matrix_to_axis_angle,
)
from jaxrecipes.recipes.hand_pose.augment import NO_DRAWS, NO_RANGES, View, draw, drawn_view

Array = jax.Array
Batch = dict[str, Array]

__all__ = ["HandCrop", "draw"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class HandCrop:
    """Crops each hand and brings its labels along.

    A batch has, of clips of T frames: `image` `[B, T, H, W, 3]` uint8, images in the top left of a
    canvas; `image_size` `[B, 2]` int32, their height and width; `left` `[B]`, 1 = a left hand;
    `hand_bbox` `[B, T, 4]`, the annotated box (x1, y1, x2, y2); `joint_img` `[B, T, 21, 2]`;
    `joint_cam` `[B, T, 21, 3]` mm; `joint_valid` `[B, T, 21]`; `mano_pose` `[B, T, 48]` radians;
    `mano_valid` `[B, T]`; `focal` and `princpt` `[B, T, 2]`. All 2-D is in pixels. `image` goes;
    there come `patch` `[B, T, img_size, img_size, 3]` float32 in [0, 1], `patch_bbox`, `joint_rel`
    (joints relative to the wrist), `joint_patch_bbox` and `joint_hand_bbox` (image points relative
    to the boxes' corners). What else there is stays.

    A left hand is mirrored, image and labels, so that the network sees right hands only. A frame
    whose box is not finite or empty gets the whole image for one, and none of its labels count.

    Attributes:
      img_size: side of the crop in pixels.
      expansion_ratio: side of the crop's square over the longer side of the hand's box.
      crop: where the pixels of an augmented or normalised crop are: "affine" puts those at the
        edges on the edges of its box (as an unchanged view always has them), "warp" leaves one step
        between the last and the edge.
      persp_rot_root_fix: see `augment.drawn_view`.
      perspective_normalization: turn the camera to look at the hand's centre, in validation, too.
      joint_type: how `mano_pose` comes out.
    """

    img_size: int = 224
    expansion_ratio: float = 2.0
    crop: Literal["affine", "warp"] = "warp"
    persp_rot_root_fix: bool = True
    perspective_normalization: bool = False
    joint_type: JointType = "3"

    def plain(self, batch: Mapping[str, Array]) -> Batch:
        """Without augmentation: the annotated box and camera, for validation."""
        if self.perspective_normalization:
            return self.augmented(batch, NO_DRAWS, NO_RANGES)
        return self._cropped(dict(batch), view=None)

    def augmented(
        self,
        batch: Mapping[str, Array],
        draws: Mapping[str, ArrayLike],
        ranges: Mapping[str, ArrayLike],
    ) -> Batch:
        """Seen as the draws say, in the tight box of its known joints.

        Args:
          batch: see the class.
          draws: of `augment.draw`.
          ranges: see `augment.drawn_view`.
        """
        box = batch["hand_bbox"]
        view = drawn_view(
            batch["focal"],
            batch["princpt"],
            draws,
            ranges,
            center=(box[..., :2] + box[..., 2:]) / 2 if self.perspective_normalization else None,
            root_fix=self.persp_rot_root_fix,
        )
        batch = dict(batch)
        batch["joint_cam"] = jnp.einsum(
            "btij,btnj->btni", view.points, batch["joint_cam"], precision=jax.lax.Precision.HIGHEST
        )
        batch["joint_img"] = transform_points(view.image, batch["joint_img"])
        batch["hand_bbox"] = _tight_box(batch["joint_img"], batch["joint_valid"])
        batch["mano_pose"] = _turned(batch["mano_pose"], view.root)
        return self._cropped(batch | {"focal": view.focal, "princpt": view.princpt}, view=view)

    def _cropped(self, batch: Batch, *, view: View | None) -> Batch:
        image, image_size = batch.pop("image"), batch["image_size"]
        hand_bbox, usable = _usable_box(batch["hand_bbox"], image_size)
        patch_bbox = _square(hand_bbox, self.expansion_ratio)
        left = batch["left"] > 0.5

        # Pixel -> point of the patch's box -> point of the original image.
        steps = self.img_size - (1 if view is None or self.crop == "affine" else 0)
        pixel = jnp.arange(self.img_size, dtype=jnp.float32) / steps
        pixel = pixel[None]
        across = jnp.where(left[:, None], pixel[:, ::-1], pixel)[:, None]
        side = patch_bbox[..., 2:] - patch_bbox[..., :2]
        x = (patch_bbox[..., :1] + across * side[..., :1])[..., None, :]
        y = (patch_bbox[..., 1:2] + pixel[None] * side[..., 1:])[..., None]
        x, y = jnp.broadcast_arrays(x, y)
        if view is not None:
            x, y = _moved(view.back, x, y)
        frames = image.shape[1]
        patch = sample_bilinear(
            *(a.reshape(-1, *a.shape[2:]) for a in (image, _each_frame(image_size, frames), x, y))
        )

        mirror = left[:, None]
        width = image_size[:, 1, None].astype(jnp.float32)
        hand_bbox, patch_bbox = (
            _mirrored_box(box, mirror, width) for box in (hand_bbox, patch_bbox)
        )
        joint_img = _mirrored_points(batch["joint_img"], mirror[..., None], width[..., None])
        joint_cam = batch["joint_cam"]
        joint_cam = joint_cam * _signs(mirror[..., None], (-1.0, 1.0, 1.0))
        pose = batch["mano_pose"] * _signs(mirror, (1.0, -1.0, -1.0) * 16)
        return batch | {
            "patch": (patch / 255.0).reshape(*image.shape[:2], *patch.shape[1:]),
            "patch_bbox": patch_bbox,
            "hand_bbox": hand_bbox,
            "joint_img": joint_img,
            "joint_patch_bbox": joint_img - patch_bbox[..., None, :2],
            "joint_hand_bbox": joint_img - hand_bbox[..., None, :2],
            "joint_cam": joint_cam,
            "joint_rel": joint_cam - joint_cam[..., :1, :],
            "joint_valid": batch["joint_valid"] * usable[..., None],
            "mano_pose": from_axis_angle(pose, self.joint_type),
            "mano_valid": batch["mano_valid"] * usable,
            "princpt": _mirrored_points(batch["princpt"], mirror, width),
        }


def _tight_box(points: Array, valid: Array) -> Array:
    """Around the valid of `[..., N, 2]` points: `[..., 4]`, not finite where none is."""
    valid = valid[..., None] > 0.5
    low = jnp.where(valid, points, jnp.inf).min(axis=-2)
    high = jnp.where(valid, points, -jnp.inf).max(axis=-2)
    return jnp.concatenate([low, high], axis=-1)


def _usable_box(box: Array, image_size: Array) -> tuple[Array, Array]:
    """The box, or the whole image in place of one that is not finite or empty; and which are
    usable, 1 or 0.
    """
    usable = jnp.isfinite(box).all(axis=-1) & (box[..., 2:] > box[..., :2]).any(axis=-1)
    whole = jnp.pad(image_size[:, ::-1].astype(jnp.float32), ((0, 0), (2, 0)))[:, None]
    return jnp.where(usable[..., None], box, whole), usable.astype(jnp.float32)


def _square(box: Array, expansion_ratio: float) -> Array:
    corner, end = box[..., :2], box[..., 2:]
    center = (corner + end) / 2
    half = (end - corner).max(axis=-1, keepdims=True) * (0.5 * expansion_ratio)
    return jnp.concatenate([center - half, center + half], axis=-1)


def _moved(matrix: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Points `[B, T, S, S]` through projective matrices `[B, T, 3, 3]`."""
    m = matrix[..., None, None]
    across, down, depth = (
        m[..., i, 0, :, :] * x + m[..., i, 1, :, :] * y + m[..., i, 2, :, :] for i in range(3)
    )
    depth = jnp.where(jnp.abs(depth) > 1e-8, depth, 1.0)
    return across / depth, down / depth


def _turned(pose: Array, rotation: Array) -> Array:
    """The pose with its first rotation, the root's, turned."""
    root = jnp.matmul(
        rotation, axis_angle_to_matrix(pose[..., :3]), precision=jax.lax.Precision.HIGHEST
    )
    return jnp.concatenate([matrix_to_axis_angle(root), pose[..., 3:]], axis=-1)


def _each_frame(values: Array, frames: int) -> Array:
    return jnp.broadcast_to(values[:, None], (len(values), frames, *values.shape[1:]))


def _mirrored_points(points: Array, mirror: Array, width: Array) -> Array:
    x = jnp.where(mirror, width - points[..., 0], points[..., 0])
    return jnp.stack([x, points[..., 1]], axis=-1)


def _mirrored_box(box: Array, mirror: Array, width: Array) -> Array:
    x1, y1, x2, y2 = (box[..., i] for i in range(4))
    x1, x2 = jnp.where(mirror, width - x2, x1), jnp.where(mirror, width - x1, x2)
    return jnp.stack([x1, y1, x2, y2], axis=-1)


def _signs(mirror: Array, signs: tuple[float, ...]) -> Array:
    mirror = mirror[..., None]
    return jnp.where(mirror, aligned(jnp.array(signs, jnp.float32), mirror), 1.0)
