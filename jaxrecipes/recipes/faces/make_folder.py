"""From plain arrays of embeddings to the folder of face features that the face recipes read."""

import dataclasses
import io
import json
import logging
import pathlib
from collections.abc import Sequence

import numpy as np

from jaxrecipes.data.array_files import check_directions, check_rows, read_arrays
from jaxrecipes.errors import named, named_rows, telling, unknown_name
from jaxrecipes.files import write_bytes

_log = logging.getLogger("jaxrecipes")

ANGLES = ("roll", "yaw", "pitch")  # the entries of a pose: in-plane tilt, true yaw, nod


@dataclasses.dataclass(frozen=True)
class ConvertedFaces:
    """What was written.

    Attributes:
      people: number of people.
      front_rows, video_rows: rows of the two sides.
      unpaired: people who have only one of them, who cannot be used.
    """

    people: int
    front_rows: int
    video_rows: int
    unpaired: list[str]


def make_face_folder(
    output: str | pathlib.Path,
    embeddings: np.ndarray,
    person: np.ndarray,
    pose: np.ndarray,
    *,
    frontal: np.ndarray | None = None,
    frontals_per_person: int = 1,
    keypoints: np.ndarray | None = None,
    principal_axes: bool = False,
) -> ConvertedFaces:
    """Writes the six files, in the order of the rows.

    Embeddings are scaled to unit length. Keypoints are centred, and scaled so that in the mean
    frontal face the farthest lies at 1; without keypoints the files hold NaN, which model A0 of
    face3d then refuses. An image's path is `row_I`, its row in the arrays given.

    Args:
      output: folder, made if need be; files of these names are overwritten.
      embeddings: `[N, D]` numbers.
      person: `[N]` integers or strings; a warning counts and names rows of a blank one, which are
        left out.
      pose: `[N, 3]` degrees: in-plane tilt, true yaw, nod; see `pose_entries`.
      frontal: bool `[N]`, which rows are frontal photos; the others are side views. None: of each
        person the `frontals_per_person` rows with the smallest true yaw (without its sign; the
        earlier row where two are equal).
      frontals_per_person: 1 or more.
      keypoints: `[N, 5, 3]`.
      principal_axes: turn the embeddings onto the principal axes of all rows, strongest first.
        Lengths and cosines stay; coordinates now differ in what they carry, which
        `data.reflect_prob` lives on. `rotation.npy` in the folder, `[D, D]`, turns other
        embeddings alike: `embeddings @ rotation`.

    Raises:
      ValueError: arrays that do not fit, embeddings of length 0, or one side without rows.
    """
    embeddings = check_rows(embeddings, (-1,), "embeddings")
    count = len(embeddings)
    pose = check_rows(pose, (3,), "poses", count=count)
    names = _person_names(person, count)
    named = np.array([bool(name.strip()) for name in names])
    if not named.all():
        unnamed = np.flatnonzero(~named).tolist()
        _log.warning("left out %s", named_rows(unnamed, "without a person"))
    used = np.flatnonzero(named)
    check_directions(embeddings[used], "embeddings", used)
    if frontal is None:
        frontal = _nearest_to_frontal(names, pose[:, 1], frontals_per_person)
    elif (
        frontal.shape != (count,)
        or frontal.dtype.kind not in "biuf"
        or not np.isin(frontal, (0, 1)).all()
    ):
        raise ValueError(
            f"frontal is {frontal.dtype} {list(frontal.shape)}; expected [{count}] of true "
            f"and false, "
            "or 1 and 0"
        )
    frontal = frontal.astype(bool)
    front, video = frontal & named, ~frontal & named
    if not front.any() or not video.any():
        raise ValueError(
            f"{int(front.sum())} of {int(named.sum())} rows are frontal; expected frontal photos "
            "and side views"
        )
    points = np.full((count, 5, 3), np.nan, np.float32)
    if keypoints is not None:
        keypoints = check_rows(keypoints, (5, 3), "keypoints", count=count)
        points = keypoints - keypoints.mean(axis=1, keepdims=True)
        points /= np.linalg.norm(points[front].mean(axis=0), axis=-1).max() + 1e-8
    folder = pathlib.Path(output)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    embeddings = embeddings / np.where(lengths, lengths, 1)
    if principal_axes:
        exact = embeddings.astype(np.float64)
        rotation = np.linalg.eigh(exact[named].T @ exact[named]).eigenvectors[:, ::-1]
        embeddings = exact @ rotation
        _save(folder / "rotation.npy", rotation)
    for side, rows in (("front", np.flatnonzero(front)), ("video", np.flatnonzero(video))):
        metadata = {
            "num_samples": len(rows),
            "feature_dim": embeddings.shape[1],
            "metadata": [
                {"person_name": names[row], "image_path": f"row_{row}"} for row in rows.tolist()
            ],
            "poses": pose[rows].tolist(),
        }
        _save(folder / f"{side}_feature.npy", embeddings[rows])
        _save(folder / f"{side}_keypoints.npy", points[rows])
        write_bytes(folder / f"{side}_metadata.json", json.dumps(metadata).encode())
    sides = [{names[row] for row in np.flatnonzero(mask)} for mask in (front, video)]
    return ConvertedFaces(
        people=len(sides[0] | sides[1]),
        front_rows=int(front.sum()),
        video_rows=int(video.sum()),
        unpaired=sorted(sides[0] ^ sides[1]),
    )


def pose_entries(
    angles: np.ndarray, order: Sequence[str], *, pitch_offset: float = 0.0
) -> np.ndarray:
    """Poses as the recipes' original stores them: in-plane tilt, true yaw, nod.

    Args:
      angles: `[N, len(order)]` degrees, or `[N]` for a single angle.
      order: what the columns are: roll (in-plane tilt), yaw (left and right), pitch (nod). An
        angle that is left out is 0.
      pitch_offset: added to the nod. The original's pose estimator gives a frontal face 180 there,
        so 180 makes poses for models that were trained on its data.

    Returns:
      float32 `[N, 3]`, in [-180, 180).

    Raises:
      ValueError: an unknown or repeated angle, or another number of columns.
    """
    for name in order:
        if name not in ANGLES:
            raise unknown_name("angle", name, ANGLES)
    if len(set(order)) != len(order):
        raise ValueError(f"the pose order {','.join(order)} names an angle twice")
    columns = angles[:, None] if angles.ndim == 1 else angles
    columns = check_rows(columns, (len(order),), f"angles ({', '.join(order)})")
    entries = np.zeros((len(columns), 3), np.float32)
    for column, name in enumerate(order):
        entries[:, ANGLES.index(name)] = columns[:, column]
    entries[:, 2] += pitch_offset
    return (entries + 180.0) % 360.0 - 180.0


def convert_features(
    source: str | pathlib.Path,
    output: str | pathlib.Path,
    *,
    pose_order: Sequence[str] = ANGLES,
    pitch_offset: float = 0.0,
    embeddings_key: str = "embeddings",
    person_key: str = "person",
    pose_key: str = "pose",
    frontal_key: str | None = None,
    keypoints_key: str | None = None,
    frontals_per_person: int = 1,
    principal_axes: bool = False,
) -> ConvertedFaces:
    """Makes the folder from an `.npz`; see `make_face_folder` and `pose_entries`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a file that cannot be read, a missing key, or arrays that do not fit.
    """
    source = pathlib.Path(source)
    arrays = read_arrays(source, npy_name=embeddings_key)

    def take(key: str) -> np.ndarray:
        return named(f"array of {source}", key, arrays)

    return make_face_folder(
        output,
        take(embeddings_key),
        take(person_key),
        pose_entries(take(pose_key), pose_order, pitch_offset=pitch_offset),
        frontal=None if frontal_key is None else take(frontal_key),
        frontals_per_person=frontals_per_person,
        keypoints=None if keypoints_key is None else take(keypoints_key),
        principal_axes=principal_axes,
    )


def _person_names(person: np.ndarray, count: int) -> list[str]:
    if person.shape != (count,) or person.dtype.kind not in "iuUS":
        raise ValueError(
            f"person is {person.dtype} {list(person.shape)}; expected [{count}] integers or strings"
        )
    with telling("person holds names that are not UTF-8", UnicodeDecodeError):
        return [p.decode() if isinstance(p, bytes) else str(p) for p in person.tolist()]


def _nearest_to_frontal(names: list[str], yaw: np.ndarray, per_person: int) -> np.ndarray:
    if per_person < 1:
        raise ValueError(f"frontals_per_person is {per_person}; it must be 1 or more")
    frontal = np.zeros(len(names), bool)
    rows_of: dict[str, list[int]] = {}
    for row in np.argsort(np.abs(yaw), kind="stable").tolist():
        rows_of.setdefault(names[row], []).append(row)
    for rows in rows_of.values():
        frontal[rows[:per_person]] = True
    return frontal


def _save(file: pathlib.Path, array: np.ndarray) -> None:
    stream = io.BytesIO()
    np.save(stream, array.astype(np.float32))
    write_bytes(file, stream.getvalue())
