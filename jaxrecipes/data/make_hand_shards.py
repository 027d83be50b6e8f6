"""From parquet files of hand crops with joints to the tar shards that hand_pose reads."""

import collections
import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow.parquet as pq

from jaxrecipes.data.hand_schema import HandSequence, pack_sequence
from jaxrecipes.data.labelled_images import split_name
from jaxrecipes.data.parquet_files import find_parquet_files
from jaxrecipes.data.tar_writer import ShardWriter
from jaxrecipes.models.hand_joints import NUM_JOINTS, POSE_SIZE, SHAPE_SIZE

if TYPE_CHECKING:
    from jaxrecipes.models.hand_model import HandModel

FitHands = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Joints of right hands `[N, 21, 3]` mm in the camera's frame to pose `[N, 48]` (axis-angle), shape
`[N, 10]`, and `[N]` mm, how far the joints of that hand are from the given ones."""
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
    order of `hand_joints.JOINT_NAMES`, NaN where not known), `joints_uv` (42, pixels),
    `image_bytes` (JPEG, PNG or WebP), `split`; and, if they are there, `name`, `block` and `frame`:
    rows of one block that follow each other become one sequence, `frame` gives the time. Without
    block each row is a sequence. The box is that of the known joints.

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
      ValueError: a missing column, an unknown split, or numbers of another count.
    """
    files = find_parquet_files(data)
    if handedness not in ("left", "right"):
        raise ValueError(f"handedness {handedness!r}; want 'left' or 'right'")
    for file in files:
        missing = sorted(set(_COLUMNS) - set(pq.read_schema(file).names))
        if missing:
            raise ValueError(f"{file} has no column {', '.join(missing)}; want {_COLUMNS}")
    left = handedness == "left"
    pose, shape, error = _fit_all(files, left, fit)
    fitted = error <= max_fit_error
    counts: collections.Counter[str] = collections.Counter()
    rows = enumerate(_rows(files))
    with contextlib.ExitStack() as stack:
        writers: dict[str, ShardWriter] = {}
        groups = itertools.groupby(rows, lambda item: _group(*item))
        for number, ((split, _), group) in enumerate(groups):
            if split not in writers:
                folder = Path(output) / split
                shards = ShardWriter(folder, "hands-{:06d}.tar", max_samples=max_samples)
                writers[split] = stack.enter_context(shards)
            indices, members = zip(*group, strict=True)
            labels = _labels(members, frames_per_second)
            chosen = list(indices)
            labels |= {
                "mano_pose": pose[chosen],
                "mano_shape": shape[chosen],
                "mano_valid": fitted[chosen].astype(np.float32),
            }
            sequence = HandSequence(
                key=f"sequence_{number:06d}",
                images=[row["image_bytes"] for row in members],
                left=left,
                labels=labels,
                source=Path(data).stem,
                paths=[str(row.get("name", i)) for i, row in zip(indices, members, strict=True)],
            )
            writers[split].write(sequence.key, pack_sequence(sequence))
            counts[split] += len(members)
    mean_error = float(error[fitted].mean()) if fitted.any() else 0.0
    return ConvertedHands(frames=dict(counts), fitted=int(fitted.sum()), fit_error=mean_error)


def fit_with(model: "HandModel", *, joint_std: float = 5.0) -> FitHands:
    """Fits this right hand to the joints, see `hand_fit.fit_hands`.

    Args:
      model: the hand that poses and shapes are of.
      joint_std: mm, how exact the joints are. Annotated joints are not those of a model, and with a
        smaller number the shape is bent to meet them.
    """
    from jaxrecipes.models.hand_fit import fit_hands  # here, since nothing else needs jax

    def fit(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        fitted = fit_hands(model, joints, np.ones(joints.shape[:2]), joint_std=joint_std)
        return np.asarray(fitted.pose), np.asarray(fitted.betas), np.asarray(fitted.error)

    return fit


def mirror_pose(pose: np.ndarray) -> np.ndarray:
    """The pose `[..., 48]` (axis-angle) of the other hand in a mirror that negates x."""
    return pose * np.tile(np.array([1, -1, -1], pose.dtype), POSE_SIZE // 3)


def _rows(files: tuple[Path, ...], columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    for file in files:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(256, columns=columns):
                yield from batch.to_pylist()


def _group(index: int, row: Mapping[str, Any]) -> tuple[str, Any]:
    """What the rows of a sequence share: split and block."""
    split = split_name(row["split"])
    if split is None:
        raise ValueError(f"row {index} has split {row['split']!r}; want train, val or test")
    return split, row.get("block", index)


def _fit_all(
    files: tuple[Path, ...], left: bool, fit: FitHands | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pose `[N, 48]`, shape `[N, 10]` and error `[N]` of all rows; 0 and infinite without a fit."""
    joints = np.stack(
        [_numbers(row, "joints_cam_mm", (NUM_JOINTS, 3)) for row in _rows(files, ["joints_cam_mm"])]
    )
    pose = np.zeros((len(joints), POSE_SIZE), np.float32)
    shape = np.zeros((len(joints), SHAPE_SIZE), np.float32)
    error = np.full(len(joints), np.inf, np.float32)
    known = np.isfinite(joints).all(axis=(1, 2))
    if fit is not None and known.any():
        mirror = np.array([-1, 1, 1] if left else [1, 1, 1], np.float32)
        fitted, shape[known], error[known] = fit(joints[known] * mirror)
        pose[known] = mirror_pose(fitted) if left else fitted
    return pose, shape, error


def _labels(rows: tuple[Mapping[str, Any], ...], frames_per_second: float) -> dict[str, np.ndarray]:
    """The labels of a sequence but for MANO's."""
    intrinsics = np.stack([_numbers(row, "K", (3, 3)) for row in rows])
    joint_cam = np.stack([_numbers(row, "joints_cam_mm", (NUM_JOINTS, 3)) for row in rows])
    joint_img = np.stack([_numbers(row, "joints_uv", (NUM_JOINTS, 2)) for row in rows])
    known = np.isfinite(joint_cam).all(axis=-1) & np.isfinite(joint_img).all(axis=-1)
    inside = np.where(known[..., None], joint_img, np.nan)
    some = known.any(axis=1)
    box = np.zeros((len(rows), 4), np.float32)
    box[some] = np.concatenate(
        [np.nanmin(inside[some], axis=1), np.nanmax(inside[some], axis=1)], axis=-1
    )
    frame = np.array([row.get("frame", i) for i, row in enumerate(rows)], np.float64)
    return {
        "hand_bbox": box,
        "joint_img": joint_img,
        "joint_cam": joint_cam,
        "joint_valid": known.astype(np.float32),
        "timestamp": ((frame - frame[0]) * 1000.0 / frames_per_second).astype(np.float32),
        "focal": intrinsics[:, [0, 1], [0, 1]],
        "princpt": intrinsics[:, :2, 2],
    }


def _numbers(row: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> np.ndarray:
    values = np.asarray(row[name], np.float32)
    if values.size != np.prod(shape):
        raise ValueError(f"{name} has {values.size} numbers, want {np.prod(shape)}")
    return values.reshape(shape)
