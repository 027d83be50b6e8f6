"""Whether the labels of a hand can be true: units, boxes, and points within reach of the image."""

from collections.abc import Mapping

import numpy as np

from jaxrecipes.data.array_files import LONGEST
from jaxrecipes.models.hand.joints import EDGES

_SHORTEST_BONE, _LONGEST_BONE = 5.0, 300.0
"""mm, of the median bone of a hand; a newborn's is 10."""
_LIKELY_UNITS = ((0.5, "metres", 1000), (_SHORTEST_BONE, "centimetres", 10))
_ENOUGH_BONES = 5
_FULL_TURNS = 4 * np.pi
_REACH = 2.0
"""How far outside of an image a joint may lie, in its longer sides."""


def check_hand_labels(labels: Mapping[str, np.ndarray]) -> None:
    """Raises a ValueError where labels that count cannot be true.

    Args:
      labels: by the names of `schema.LABELS`, `[F, ...]`, finite where they are valid.
    """
    known, fitted = labels["joint_valid"] > 0.5, labels["mano_valid"] > 0.5
    for name in ("joint_valid", "mano_valid"):
        strange = ~np.isin(labels[name], (0, 1))
        if strange.any():
            frame = int(np.argwhere(strange)[0][0])
            value = labels[name][strange][0]
            raise ValueError(f"{name} of frame {frame} is {value:g}; expected 0 or 1")
    _check_largest(labels, known, fitted)
    check_bones(labels["joint_cam"], known)
    behind = known & (labels["joint_cam"][..., 2] <= 0)
    if behind.any():
        frame, joint = np.argwhere(behind)[0].tolist()
        depth = labels["joint_cam"][frame, joint, 2]
        raise ValueError(
            f"joint_cam of frame {frame} has joint {joint} at a depth of {depth:g} mm, behind the "
            "camera; expected the camera's frame: x right, y down, z away"
        )
    turned = np.abs(labels["mano_pose"]).max(axis=-1) > _FULL_TURNS
    if (turned & fitted).any():
        frame = int(np.flatnonzero(turned & fitted)[0])
        value = labels["mano_pose"][frame][np.abs(labels["mano_pose"][frame]).argmax()]
        raise ValueError(
            f"mano_pose of frame {frame} has a rotation of {value:g}; expected radians, not degrees"
        )
    box = labels["hand_bbox"]
    empty = (known.any(axis=-1) | fitted) & (box[:, 2:] <= box[:, :2]).any(axis=-1)
    if empty.any():
        frame = int(np.flatnonzero(empty)[0])
        raise ValueError(
            f"hand_bbox of frame {frame} is {_listed(box[frame])}, an empty box; expected "
            f"x1, y1, x2, "
            "y2 with x1 < x2 and y1 < y2"
        )


def check_bones(joint_cam: np.ndarray, known: np.ndarray) -> None:
    """Raises a ValueError with the likely unit where the median bone is not that of a hand in mm.

    Args:
      joint_cam: `[F, 21, 3]`.
      known: `[F, 21]` bool.
    """
    near, far = np.array(EDGES).T
    lengths = np.linalg.norm(joint_cam[:, far] - joint_cam[:, near], axis=-1)
    lengths = lengths[known[:, far] & known[:, near]]
    if len(lengths) < _ENOUGH_BONES:
        return
    bone = float(np.median(lengths))
    if bone == 0 or _SHORTEST_BONE <= bone <= _LONGEST_BONE:  # all joints in one place: no unit
        return
    likely = "expected mm"
    for limit, unit, factor in _LIKELY_UNITS:
        if bone < limit:
            likely = f"it seems to be in {unit}: multiply by {factor}"
            break
    raise ValueError(f"joint_cam gives the median bone a length of {bone:.3g} mm; {likely}")


def check_within_reach(labels: Mapping[str, np.ndarray], image_size: np.ndarray) -> None:
    """Raises a ValueError for a known joint, or the box of a frame that has any, far outside
    of its image, and for points that are shares of the image.

    Args:
      labels: as above.
      image_size: `[F, 2]` pixels, height and width.
    """
    known = labels["joint_valid"] > 0.5
    counts = known.any(axis=-1) | (labels["mano_valid"] > 0.5)
    size = image_size[:, None, ::-1].astype(np.float32)
    reach = _REACH * size.max(axis=-1, keepdims=True)
    for name, points, used in (
        ("joint_img", labels["joint_img"], known),
        ("hand_bbox", labels["hand_bbox"].reshape(-1, 2, 2), counts[:, None].repeat(2, axis=1)),
    ):
        far = used & ((points < -reach) | (points > size + reach)).any(axis=-1)
        if far.any():
            frame, at = np.argwhere(far)[0].tolist()
            height, width = image_size[frame].tolist()
            what = f" of joint {at}" if name == "joint_img" else ""
            raise ValueError(
                f"{name} of frame {frame} has the point {_listed(points[frame, at])}{what}, far "
                f"outside of its image of {width} x {height} pixels; expected pixels of that image"
            )
    inside = labels["joint_img"][known]
    if len(inside) and 0 <= inside.min() < inside.max() <= 1 and image_size.min() > 8:
        raise ValueError(
            "all joint_img lie between 0 and 1; expected pixels: multiply x by the width and y by "
            "the height"
        )


def _check_largest(labels: Mapping[str, np.ndarray], known: np.ndarray, fitted: np.ndarray) -> None:
    always = np.ones(len(fitted), bool)
    counting = {
        "joint_img": known,
        "joint_cam": known,
        "mano_pose": fitted,
        "mano_shape": fitted,
        "focal": always,
        "princpt": always,
        "hand_bbox": always,
    }
    for name, valid in counting.items():
        large = valid & (np.abs(labels[name]) >= LONGEST).any(axis=-1)
        if large.any():
            frame = int(np.argwhere(large)[0][0])
            value = labels[name][frame].ravel()[np.abs(labels[name][frame]).argmax()]
            raise ValueError(f"{name} of frame {frame} has the number {value:g}, beyond all bounds")


def _listed(numbers: np.ndarray) -> str:
    return "(" + ", ".join(f"{number:g}" for number in numbers.tolist()) + ")"
