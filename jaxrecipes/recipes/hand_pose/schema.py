"""The members of a sample of hand shards: a sequence of frames of one hand, with its labels."""

import dataclasses
import io
import json
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrecipes.recipes.hand_pose.bytes_pickle import list_of_bytes
from jaxrecipes.recipes.hand_pose.label_checks import check_hand_labels

LABELS: Mapping[str, tuple[int, ...]] = {
    "hand_bbox": (4,),
    "joint_img": (21, 2),
    "joint_cam": (21, 3),
    "joint_valid": (21,),
    "mano_pose": (48,),
    "mano_shape": (10,),
    "mano_valid": (),
    "timestamp": (),
    "focal": (2,),
    "princpt": (2,),
}
"""What a frame is labelled with: the name of its `.npy` member and the shape of one frame."""
_ALIASES = {"mano_valid": "has_mano", "joint_valid": "joint_3d_valid"}  # a later schema's names
_ALWAYS_KNOWN = ("hand_bbox", "timestamp", "focal", "princpt")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HandSequence:
    """Frames of one hand.

    Attributes:
      key: its name, without dot.
      images: `[F]` encoded images (WebP, JPEG, PNG).
      left: a left hand. Its labels are those of a left hand too: joints where they are, and the
        MANO pose of the mirrored right hand with y and z of every axis-angle negated.
      labels: float32 `[F, ...]` by the names of `LABELS`: `hand_bbox` xyxy and `joint_img` in
        pixels, `joint_cam` mm, `joint_valid` and `mano_valid` 0 or 1, `mano_pose` axis-angle
        relative to the mean hand, `timestamp` ms, `focal` and `princpt` in pixels.
      source: the data set that it comes from; None: not known.
      paths: `[F]` names of the images; None: made up from the key.
    """

    key: str
    images: Sequence[bytes]
    left: bool
    labels: Mapping[str, np.ndarray]
    source: str | None = None
    paths: Sequence[str] | None = None


def parse_sequence(key: str, members: Mapping[str, bytes]) -> HandSequence:
    """The sequence of a sample.

    Non-finite labels become 0 where they are marked as not valid.

    Args:
      key: of the sample.
      members: contents by name; those that are not needed are ignored.

    Raises:
      ValueError: a member that is missing or cannot be read, a wrong shape, a label that is marked
        as valid but not finite (such as a MANO pose of NaN), or impossible labels (see
        `label_checks`).
    """
    images = _images(_member(members, "img_bytes.pickle"))
    handedness = _json(members, "handedness.json")
    if handedness not in ("left", "right"):
        raise ValueError(f"handedness.json says {handedness!r}; expected 'left' or 'right'")
    labels = {}
    for name, shape in LABELS.items():
        stored = name if f"{name}.npy" in members else _ALIASES.get(name, name)
        labels[name] = _array(members, f"{stored}.npy", (len(images), *shape))
    _check_labels(labels)
    source = _json(members, "data_source.json") if "data_source.json" in members else None
    paths = _json(members, "imgs_path.json") if "imgs_path.json" in members else None
    return HandSequence(
        key=key,
        images=images,
        left=handedness == "left",
        labels=labels,
        source=source if isinstance(source, str) else None,
        paths=paths if isinstance(paths, list) and len(paths) == len(images) else None,
    )


def pack_sequence(sequence: HandSequence) -> dict[str, bytes]:
    """The members of a sequence's sample; the inverse of `parse_sequence`.

    Raises:
      ValueError: no frames, a missing label, a wrong shape, and non-finite or impossible labels
        (see `label_checks`).
    """
    num_frames = len(sequence.images)
    if not num_frames:
        raise ValueError(f"sequence {sequence.key!r} has no frames")
    labels = {}
    for name, shape in LABELS.items():
        if name not in sequence.labels:
            raise ValueError(f"sequence {sequence.key!r} has no label {name}")
        labels[name] = np.asarray(sequence.labels[name], np.float32)
        _check_shape(f"{name} of sequence {sequence.key!r}", labels[name], (num_frames, *shape))
    _check_labels(labels)
    relative = {
        "joint_rel": labels["joint_cam"] - labels["joint_cam"][:, :1],
        "joint_hand_bbox": labels["joint_img"] - labels["hand_bbox"][:, None, :2],
    }
    paths = sequence.paths or [f"{sequence.key}/{i:06d}" for i in range(num_frames)]
    members = {
        "imgs_path.json": json.dumps(list(paths)).encode(),
        "img_bytes.pickle": pickle.dumps([bytes(image) for image in sequence.images], protocol=4),
        "handedness.json": json.dumps("left" if sequence.left else "right").encode(),
    }
    if sequence.source is not None:
        members["data_source.json"] = json.dumps(sequence.source).encode()
    return members | {f"{name}.npy": _npy(array) for name, array in (labels | relative).items()}


def _images(content: bytes) -> list[bytes]:
    try:
        places = list_of_bytes(content)
    except ValueError as error:
        raise ValueError(f"img_bytes.pickle cannot be read: {error}") from error
    if not places:
        raise ValueError("img_bytes.pickle holds no images")
    return [content[start : start + size] for start, size in places]


def _member(members: Mapping[str, bytes], name: str) -> bytes:
    if name not in members:
        raise ValueError(f"{name} is missing")
    return members[name]


def _json(members: Mapping[str, bytes], name: str) -> Any:
    try:
        return json.loads(_member(members, name))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is no JSON: {error}") from error


def _array(members: Mapping[str, bytes], name: str, shape: tuple[int, ...]) -> np.ndarray:
    content = io.BytesIO(_member(members, name))
    try:
        array = np.lib.format.read_array(content, allow_pickle=False).astype(np.float32)
    except Exception as error:  # as above
        raise ValueError(f"{name} cannot be read: {error}") from error
    _check_shape(name, array, shape)
    return array


def _check_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")


def _check_labels(labels: dict[str, np.ndarray]) -> None:
    """Raises unless everything marked as valid is finite; sets the rest to finite values."""
    for name in (*_ALWAYS_KNOWN, "joint_valid", "mano_valid"):
        if not np.isfinite(labels[name]).all():
            raise ValueError(f"{name} is not finite")
    if (labels["focal"] <= 0).any():
        raise ValueError("focal is not positive")
    for valid, names in (
        ("joint_valid", ("joint_img", "joint_cam")),
        ("mano_valid", ("mano_pose", "mano_shape")),
    ):
        for name in names:
            finite = np.isfinite(labels[name])
            if ((labels[valid] > 0.5) & ~finite.all(axis=-1)).any():
                raise ValueError(f"{name} is not finite where {valid} says that it is known")
            if not finite.all():
                labels[name] = np.where(finite, labels[name], np.float32(0))
    check_hand_labels(labels)


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()
