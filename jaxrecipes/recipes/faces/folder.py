"""The folder of face features: embeddings of frontal photos and of video frames, with poses.

Six files: `{front,video}_feature.npy` `[N, D]`, `{front,video}_keypoints.npy` `[N, 5, 3]` and
`{front,video}_metadata.json`. Row i of every list in a side's JSON belongs to row i of its arrays.
"""

import dataclasses
import json
import logging
import pathlib
from typing import Any

import numpy as np

from jaxrecipes.data.array_files import LONGEST, check_directions, check_numbers, open_array
from jaxrecipes.errors import named_rows, telling
from jaxrecipes.files import check_content
from jaxrecipes.paths import user_path

_log = logging.getLogger("jaxrecipes")

NUM_KEYPOINTS = 5
_ENOUGH = 20  # rows, to judge a unit by


@dataclasses.dataclass(frozen=True)
class FaceSide:
    """The frontal photos, or the video frames. What is on disk is read by `take_...` only.

    Attributes:
      features: `[N, D]`, may be memory-mapped.
      persons: `[N]` names; empty where the metadata has none.
      poses: float32 `[N, 3]`, degrees: in-plane tilt, true yaw, nod.
      images: `[N]` names of the images, empty where they have none.
      keypoints: `[N, 5, 3]`, may be memory-mapped; None where they were not asked for.
      features_from, keypoints_from: where they come from, for error messages.
    """

    features: np.ndarray
    persons: list[str]
    poses: np.ndarray
    images: list[str]
    keypoints: np.ndarray | None
    features_from: str
    keypoints_from: str

    def __len__(self) -> int:
        return len(self.persons)

    def take_features(self, rows: np.ndarray) -> np.ndarray:
        """float32 `[len(rows), D]`; only these rows are read.

        Raises:
          ValueError: one of them is not finite, beyond `LONGEST`, or has no length.
        """
        features = _usable(self.features[rows], rows, self.features_from)
        check_directions(features, self.features_from, rows)
        return features

    def take_keypoints(self, rows: np.ndarray) -> np.ndarray:
        """float32 `[len(rows), 5, 3]`; only these rows are read.

        Raises:
          ValueError: there are no keypoints, or one of them is not finite or beyond `LONGEST`.
        """
        if self.keypoints is None:
            raise ValueError("there are no keypoints; read the folder with keypoints=True")
        return _usable(self.keypoints[rows], rows, self.keypoints_from)


@dataclasses.dataclass(frozen=True)
class FaceViews:
    """Both sides, with features of one width."""

    front: FaceSide
    video: FaceSide


def read_face_folder(root: str | pathlib.Path, *, keypoints: bool = False) -> FaceViews:
    """Opens a folder; reads the metadata, and of the arrays only the shapes.

    Keypoints are, where the metadata has `landmarks_3d_original` for every row, those points less
    their mean over the five, times `standard_info.standard_scale` of the FRONT file (1 if absent);
    otherwise they are those of the `.npy`. Of the metadata only `metadata[].person_name` and
    `poses` are required; a warning counts and names rows whose person is null or blank.

    Args:
      root: the folder.
      keypoints: whether `FaceSide.keypoints` is wanted.

    Raises:
      FileNotFoundError: the folder or one of the six files is missing.
      ValueError: a file that cannot be read, or shapes, lengths or widths that do not fit; the
        file is named.

    Source: `dataset.py` of the face recipes' original.
    """
    root = user_path(root)
    names = [
        f"{side}_{name}"
        for side in ("front", "video")
        for name in ("feature.npy", "keypoints.npy", "metadata.json")
    ]
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{root} is no folder of face features: {', '.join(missing)} missing; "
            "jaxrecipes make_dataset makes one from arrays"
        )
    front_metadata = _read_metadata(root / "front_metadata.json")
    video_metadata = _read_metadata(root / "video_metadata.json")
    scale = _standard_scale(front_metadata, root) if keypoints else None
    views = FaceViews(
        front=_open_side(root, "front", front_metadata, scale),
        video=_open_side(root, "video", video_metadata, scale),
    )
    widths = views.front.features.shape[1], views.video.features.shape[1]
    if widths[0] != widths[1]:
        raise ValueError(
            f"features of {root} have different widths: front_feature.npy {widths[0]}, "
            f"video_feature.npy {widths[1]}"
        )
    return views


def _open_side(
    root: pathlib.Path, side: str, metadata: dict[str, Any], scale: float | None
) -> FaceSide:
    metadata_file = root / f"{side}_metadata.json"
    features_file, keypoints_file = root / f"{side}_feature.npy", root / f"{side}_keypoints.npy"
    entries = _list_of(metadata, "metadata", metadata_file)
    persons = [_person(entry, row, metadata_file) for row, entry in enumerate(entries)]
    images = [str(entry.get("image_path") or "") for entry in entries]
    if unnamed := [row for row, person in enumerate(persons) if not person]:
        _log.warning("%s: left out %s", metadata_file, named_rows(unnamed, "without a person"))
    count = len(persons)
    poses = _numbers(_list_of(metadata, "poses", metadata_file), (3,), f"{metadata_file}: poses")
    _check_length(poses, count, f"{metadata_file}: poses", metadata_file)
    check_numbers(poses, f"{metadata_file}: poses")
    if count >= _ENOUGH and 0 < np.abs(poses).max() <= np.pi:
        _log.warning("%s: all poses lie within pi; expected degrees, not radians", metadata_file)
    features = _open_array(features_file)
    if features.ndim != 2 or features.shape[1] == 0:
        raise ValueError(f"{features_file} has the shape {features.shape}; expected [N, D]")
    _check_length(features, count, str(features_file), metadata_file)
    keypoints = _open_array(keypoints_file)
    if keypoints.shape[1:] != (NUM_KEYPOINTS, 3):
        raise ValueError(f"{keypoints_file} has the shape {keypoints.shape}; expected [N, 5, 3]")
    _check_length(keypoints, count, str(keypoints_file), metadata_file)
    keypoints_from = str(keypoints_file)
    originals = metadata.get("landmarks_3d_original")
    if scale is not None and isinstance(originals, list) and len(originals) == count:
        keypoints_from = f"{metadata_file}: landmarks_3d_original"
        points = _numbers(originals, (NUM_KEYPOINTS, 3), keypoints_from)
        keypoints = (points - points.mean(axis=1, keepdims=True)) * np.float32(scale)
    return FaceSide(
        features=features,
        persons=persons,
        poses=poses,
        images=images,
        keypoints=None if scale is None else keypoints,
        features_from=str(features_file),
        keypoints_from=keypoints_from,
    )


def _person(entry: Any, row: int, file: pathlib.Path) -> str:
    """The person's name, empty where it is null, NaN or blank."""
    if not isinstance(entry, dict) or "person_name" not in entry:
        raise ValueError(f"{file}: entry {row} (from 0) of metadata has no person_name")
    name = entry["person_name"]
    if name is None or name != name:
        return ""
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise ValueError(
            f"{file}: person_name of entry {row} (from 0) is {repr(name)[:60]}; expected a "
            f"text or a "
            "whole number"
        )
    return str(name) if str(name).strip() else ""


def _standard_scale(metadata: dict[str, Any], root: pathlib.Path) -> float:
    info = metadata.get("standard_info") or {}
    scale = info.get("standard_scale", 1.0) if isinstance(info, dict) else None
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < LONGEST:
        raise ValueError(
            f"{root / 'front_metadata.json'}: standard_info.standard_scale is "
            f"{repr(scale)[:60]}; expected a positive number"
        )
    return float(scale)


def _read_metadata(file: pathlib.Path) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            repeated = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"the key {repeated!r} stands twice in one object")
        return found

    check_content(file)
    with telling(f"{file} is not readable JSON", ValueError, RecursionError):
        metadata = json.loads(file.read_bytes(), object_pairs_hook=unique)
    if not isinstance(metadata, dict):
        raise ValueError(f"{file} holds a {type(metadata).__name__}; expected an object")
    return metadata


def _list_of(metadata: dict[str, Any], key: str, file: pathlib.Path) -> list[Any]:
    value = metadata.get(key)
    if not isinstance(value, list):
        raise ValueError(
            f"{file} has no list {key!r}; its keys are {', '.join(metadata) or 'none'}"
        )
    if not value:
        raise ValueError(f"{file}: the list {key!r} is empty")
    return value


def _numbers(values: list[Any], row_shape: tuple[int, ...], where: str) -> np.ndarray:
    try:
        array = np.array(values, np.float32)
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0, np.float32)
    if array.shape[1:] != row_shape:
        shape = ", ".join(map(str, row_shape))
        raise ValueError(f"{where}: expected [{shape}] numbers in every row")
    return array


def _open_array(file: pathlib.Path) -> np.ndarray:
    array = open_array(file)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{file} holds {array.dtype}; expected real numbers")
    return array


def _check_length(array: np.ndarray, count: int, where: str, metadata_file: pathlib.Path) -> None:
    if len(array) != count:
        raise ValueError(
            f"{where} has {len(array)} rows, but {metadata_file} has {count} entries of metadata"
        )


def _usable(values: np.ndarray, rows: np.ndarray, where: str) -> np.ndarray:
    check_numbers(values, where, rows)
    return np.asarray(values, np.float32)
