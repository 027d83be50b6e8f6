"""The folder of face features: embeddings of frontal photos and of video frames, with poses.

Six files: `{front,video}_feature.npy` `[N, D]`, `{front,video}_keypoints.npy` `[N, 5, 3]` and
`{front,video}_metadata.json`. Row i of every list in a side's JSON belongs to row i of its arrays.
"""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from jaxrecipes.paths import user_path

NUM_KEYPOINTS = 5


@dataclasses.dataclass(frozen=True)
class FaceSide:
    """The frontal photos, or the video frames. What is on disk is read by `take_...` only.

    Attributes:
      features: `[N, D]`, may be memory-mapped.
      persons: `[N]` names.
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
          ValueError: one of them is not finite.
        """
        return _finite(self.features[rows], rows, self.features_from)

    def take_keypoints(self, rows: np.ndarray) -> np.ndarray:
        """float32 `[len(rows), 5, 3]`; only these rows are read.

        Raises:
          ValueError: there are no keypoints, or one of them is not finite.
        """
        if self.keypoints is None:
            raise ValueError("there are no keypoints; read the folder with keypoints=True")
        return _finite(self.keypoints[rows], rows, self.keypoints_from)


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
    `poses` are required.

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
            "scripts/make_dataset.py makes one from arrays"
        )
    front_metadata = _read_metadata(root / "front_metadata.json")
    video_metadata = _read_metadata(root / "video_metadata.json")
    info = front_metadata.get("standard_info") or {}
    scale = float(info.get("standard_scale", 1.0)) if keypoints else None
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
    try:
        persons = [str(entry["person_name"]) for entry in entries]
        images = [str(entry.get("image_path", "")) for entry in entries]
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{metadata_file}: an entry of metadata has no person_name") from None
    count = len(persons)
    poses = _numbers(_list_of(metadata, "poses", metadata_file), (3,), f"{metadata_file}: poses")
    _check_length(poses, count, f"{metadata_file}: poses", metadata_file)
    _finite(poses, np.arange(count), f"{metadata_file}: poses")
    features = _open_array(features_file)
    if features.ndim != 2 or features.shape[1] == 0:
        raise ValueError(f"{features_file} has the shape {features.shape}; want [N, D]")
    _check_length(features, count, str(features_file), metadata_file)
    keypoints = _open_array(keypoints_file)
    if keypoints.shape[1:] != (NUM_KEYPOINTS, 3):
        raise ValueError(f"{keypoints_file} has the shape {keypoints.shape}; want [N, 5, 3]")
    _check_length(keypoints, count, str(keypoints_file), metadata_file)
    keypoints_from = str(keypoints_file)
    originals = metadata.get("landmarks_3d_original") or []
    if scale is not None and len(originals) == count:
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


def _read_metadata(file: pathlib.Path) -> dict[str, Any]:
    try:
        metadata = json.loads(file.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not readable JSON: {error}") from error
    if not isinstance(metadata, dict):
        raise ValueError(f"{file} holds a {type(metadata).__name__}; want an object")
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
    except (TypeError, ValueError):
        array = np.empty(0, np.float32)
    if array.shape[1:] != row_shape:
        shape = ", ".join(map(str, row_shape))
        raise ValueError(f"{where}: want [{shape}] numbers in every row")
    return array


def _open_array(file: pathlib.Path) -> np.ndarray:
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{file} is not a readable .npy file of numbers: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise ValueError(f"{file} does not hold one array of real numbers")
    return array


def _check_length(array: np.ndarray, count: int, where: str, metadata_file: pathlib.Path) -> None:
    if len(array) != count:
        raise ValueError(
            f"{where} has {len(array)} rows, but {metadata_file} has {count} entries of metadata"
        )


def _finite(values: np.ndarray, rows: np.ndarray, where: str) -> np.ndarray:
    values = np.asarray(values, np.float32)
    bad = ~np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    if bad.any():
        raise ValueError(
            f"{where}: {int(bad.sum())} rows are not finite, the first is row {int(rows[bad][0])}"
        )
    return values
