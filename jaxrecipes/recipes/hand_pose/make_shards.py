"""From parquet files of hand crops with joints to the tar shards that hand_pose reads."""

import collections
import contextlib
import dataclasses
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from jaxrecipes.data.parquet_files import (
    column_names,
    encoded_images,
    find_parquet_files,
    open_parquet,
)
from jaxrecipes.data.rgb_images import image_size
from jaxrecipes.data.split_names import split_name
from jaxrecipes.data.stored_images import check_image_columns
from jaxrecipes.data.tar_writer import ShardWriter
from jaxrecipes.errors import named_rows, telling
from jaxrecipes.models.hand.joints import NUM_JOINTS, POSE_SIZE, SHAPE_SIZE
from jaxrecipes.recipes.hand_pose.label_checks import check_bones, check_within_reach
from jaxrecipes.recipes.hand_pose.schema import HandSequence, pack_sequence

if TYPE_CHECKING:
    from jaxrecipes.models.hand.model import HandModel

_log = logging.getLogger("jaxrecipes")

FitHands = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Joints of right hands `[N, 21, 3]` mm in the camera's frame to pose `[N, 48]` (axis-angle), shape
`[N, 10]`, and `[N]` mm, how far the joints of that hand are from the given ones."""
_BAD = (ValueError, OSError, SyntaxError)  # what an image's head raises, too
_COLUMNS = ("K", "joints_cam_mm", "joints_uv", "image_bytes", "split")


@dataclasses.dataclass(frozen=True)
class ConvertedHands:
    """What was written.

    Attributes:
      frames: their number by split.
      fitted: frames with MANO labels.
      fit_error: mm, the mean distance of their joints from those of the fitted hands; 0 for none.
    """

    frames: dict[str, int]
    fitted: int
    fit_error: float


def make_hand_shards(
    data: str | Path,
    output: str | Path,
    *,
    handedness: Literal["left", "right"],
    fit: FitHands | None = None,
    max_fit_error: float = 10.0,
    frames_per_second: float = 30.0,
    max_samples: int = 1000,
) -> ConvertedHands:
    """Writes `OUTPUT/SPLIT/hands-000000.tar` and so on. Images are kept byte for byte.

    Columns: `K` (9 numbers, row-major intrinsics in pixels), `joints_cam_mm` (63, joints in the
    order of `joints.JOINT_NAMES`, NaN where not known), `joints_uv` (42, pixels),
    `image_bytes` (JPEG, PNG or WebP), `split`; and, if they are there, `name`, `block` and `frame`:
    rows of one block that follow each other become one sequence, `frame` gives the time. Without
    block each row is a sequence. The box is that of the known joints; a frame whose joints span
    none has no labels, and a warning counts and names those.

    Args:
      data: a parquet file, or a folder of them.
      output: folder.
      handedness: of all hands.
      fit: gives MANO labels to hands whose joints are all known. A left hand is mirrored for it,
        and its labels back, as the schema has them. None: no hand has MANO labels. See `fit_with`.
      max_fit_error: mm; hands whose fit is worse get no MANO labels.
      frames_per_second: of `frame`.
      max_samples: sequences in a tar.

    Raises:
      FileNotFoundError: no data.
      ValueError: a missing column, an unknown split, a row without an image, numbers of another
        count, or that cannot be true (see `label_checks`); the row is named.
    """
    files = find_parquet_files(data)
    if handedness not in ("left", "right"):
        raise ValueError(f"handedness {handedness!r}; expected 'left' or 'right'")
    check_image_columns(files)
    for file in files:
        missing = sorted(set(_COLUMNS) - set(column_names(file)))
        if missing:
            raise ValueError(f"{file} has no column {', '.join(missing)}; expected {_COLUMNS}")
    left = handedness == "left"
    pose, shape, error = _fit_all(files, left, fit)
    fitted = error <= max_fit_error
    counts: collections.Counter[str] = collections.Counter()
    rows = enumerate(_rows(files))
    unlabelled: list[int] = []
    with contextlib.ExitStack() as stack:
        writers: dict[str, ShardWriter] = {}
        groups = itertools.groupby(rows, lambda item: _group(*item))
        for number, ((split, _), group) in enumerate(groups):
            if split not in writers:
                folder = Path(output) / split
                shards = ShardWriter(folder, "hands-{:06d}.tar", max_samples=max_samples)
                writers[split] = stack.enter_context(shards)
            indices, members = zip(*group, strict=True)
            chosen = list(indices)
            labels = _labels(chosen, members, frames_per_second)
            some = labels["joint_valid"].any(axis=1)
            unlabelled += np.array(chosen)[~some].tolist()
            labels |= {
                "mano_pose": pose[chosen],
                "mano_shape": shape[chosen],
                "mano_valid": (fitted[chosen] & labels["joint_valid"].any(axis=1)).astype(
                    np.float32
                ),
            }
            sequence = HandSequence(
                key=f"sequence_{number:06d}",
                images=[_image(index, row) for index, row in zip(chosen, members, strict=True)],
                left=left,
                labels=labels,
                source=Path(data).stem,
                paths=[str(row.get("name") or i) for i, row in zip(chosen, members, strict=True)],
            )
            with telling(f"row {chosen[0]} (from 0) of {data}, and what belongs to it", *_BAD):
                packed = pack_sequence(sequence)
                sizes = [image_size(image, Path("image")) for image in sequence.images]
                check_within_reach(labels, np.array(sizes))
            writers[split].write(sequence.key, packed)
            counts[split] += len(members)
    if unlabelled:
        _log.warning("%s: %s have no labels", data, named_rows(unlabelled, "without known joints"))
    mean_error = float(error[fitted].mean()) if fitted.any() else 0.0
    return ConvertedHands(frames=dict(counts), fitted=int(fitted.sum()), fit_error=mean_error)


def fit_with(model: "HandModel", *, joint_std: float = 5.0) -> FitHands:
    """Fits this right hand to the joints, see `hand_fit.fit_hands`.

    Args:
      model: the hand that poses and shapes are of.
      joint_std: mm, how exact the joints are. Annotated joints are not those of a model, and with a
        smaller number the shape is bent to meet them.
    """
    from jaxrecipes.models.hand.fit import fit_hands  # here, since nothing else needs jax

    def fit(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        fitted = fit_hands(model, joints, np.ones(joints.shape[:2]), joint_std=joint_std)
        return np.asarray(fitted.pose), np.asarray(fitted.betas), np.asarray(fitted.error)

    return fit


def mirror_pose(pose: np.ndarray) -> np.ndarray:
    """The pose `[..., 48]` (axis-angle) of the other hand in a mirror that negates x."""
    return pose * np.tile(np.array([1, -1, -1], pose.dtype), POSE_SIZE // 3)


def _rows(files: tuple[Path, ...], columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    for file in files:
        with open_parquet(file) as parquet:
            for batch in parquet.iter_batches(256, columns=columns):
                rows = batch.to_pylist()
                if "image_bytes" in batch.schema.names:
                    images = encoded_images(batch.column("image_bytes"))
                    for row, image in zip(rows, images, strict=True):
                        row["image_bytes"] = image
                yield from rows


def _group(index: int, row: Mapping[str, Any]) -> tuple[str, Any]:
    """What the rows of a sequence share: split and block."""
    split = split_name(row["split"])
    if split is None:
        raise ValueError(
            f"row {index} (from 0) has split {row['split']!r}; expected train, val or test"
        )
    block = row.get("block")
    return split, ("row", index) if block is None else block


def _image(index: int, row: Mapping[str, Any]) -> bytes:
    if not row["image_bytes"]:
        raise ValueError(f"row {index} (from 0) has no image in image_bytes; remove it")
    return row["image_bytes"]


def _fit_all(
    files: tuple[Path, ...], left: bool, fit: FitHands | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pose `[N, 48]`, shape `[N, 10]` and error `[N]` of all rows; 0 and infinite without a fit."""
    name = "joints_cam_mm"
    rows = enumerate(_rows(files, [name]))
    found = [_numbers(index, row, name, (NUM_JOINTS, 3)) for index, row in rows]
    if not found:
        raise ValueError(f"{', '.join(map(str, files))}: there are no rows")
    joints = np.stack(found)
    pose = np.zeros((len(joints), POSE_SIZE), np.float32)
    shape = np.zeros((len(joints), SHAPE_SIZE), np.float32)
    error = np.full(len(joints), np.inf, np.float32)
    check_bones(joints, np.isfinite(joints).all(axis=-1))
    known = np.isfinite(joints).all(axis=(1, 2))
    if fit is not None and known.any():
        mirror = np.array([-1, 1, 1] if left else [1, 1, 1], np.float32)
        fitted, shape[known], error[known] = fit(joints[known] * mirror)
        pose[known] = mirror_pose(fitted) if left else fitted
    return pose, shape, error


def _labels(
    indices: Sequence[int], rows: Sequence[Mapping[str, Any]], frames_per_second: float
) -> dict[str, np.ndarray]:
    """The labels of a sequence but for MANO's."""
    numbered = list(zip(indices, rows, strict=True))

    def column(name: str, *shape: int) -> np.ndarray:
        return np.stack([_numbers(index, row, name, shape) for index, row in numbered])

    intrinsics = column("K", 3, 3)
    for index, matrix in zip(indices, intrinsics, strict=True):
        if not np.isfinite(matrix).all() or not np.array_equal(matrix[2], [0, 0, 1]):
            raise ValueError(
                f"K of row {index} (from 0) is {matrix.ravel().tolist()}; expected fx, 0, "
                f"cx, 0, fy, "
                "cy, 0, 0, 1 (row-major)"
            )
    joint_cam, joint_img = (
        column("joints_cam_mm", NUM_JOINTS, 3),
        column("joints_uv", NUM_JOINTS, 2),
    )
    known = np.isfinite(joint_cam).all(axis=-1) & np.isfinite(joint_img).all(axis=-1)
    low = np.where(known[..., None], joint_img, np.inf).min(axis=1)
    high = np.where(known[..., None], joint_img, -np.inf).max(axis=1)
    known &= (low < high).all(axis=-1, keepdims=True)
    box = np.where(known.any(axis=1, keepdims=True), np.concatenate([low, high], axis=-1), 0)
    try:
        frame = np.array([row.get("frame", i) for i, row in enumerate(rows)], np.float64)
    except (TypeError, ValueError):
        frame = np.array([np.nan])
    if not np.isfinite(frame).all():
        raise ValueError(f"frame of row {indices[0]} (from 0), or of a later one, is no number")
    return {
        "hand_bbox": box.astype(np.float32),
        "joint_img": joint_img,
        "joint_cam": joint_cam,
        "joint_valid": known.astype(np.float32),
        "timestamp": ((frame - frame[0]) * 1000.0 / frames_per_second).astype(np.float32),
        "focal": intrinsics[:, [0, 1], [0, 1]],
        "princpt": intrinsics[:, :2, 2],
    }


def _numbers(index: int, row: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):
            values = np.asarray(row[name], np.float32)
    except (TypeError, ValueError, OverflowError):
        values = np.empty(0, np.float32)
    if np.isinf(values).any():
        raise ValueError(
            f"{name} of row {index} (from 0) has an infinite number; what is not known is NaN"
        )
    if values.size != math.prod(shape):
        raise ValueError(
            f"{name} of row {index} (from 0) is {repr(row[name])[:60]}; expected "
            f"{math.prod(shape)} numbers"
        )
    return values.reshape(shape)
