"""Embeddings to predict frontal ones for: files and folders of the face recipes' inputs."""

import pathlib
from collections.abc import Sequence

import numpy as np

from jaxrecipes.data.array_files import check_directions, check_rows, read_arrays
from jaxrecipes.recipes.faces.data import FacePairs, check_width, row_names
from jaxrecipes.recipes.faces.folder import read_face_folder


def load_inputs(
    inputs: Sequence[pathlib.Path],
    *,
    feat_dim: int,
    keypoints: bool = False,
) -> FacePairs:
    """Embeddings to predict frontal ones for, in the order given.

    Args:
      inputs: folders of face features, of which every video row counts; `.npy` files of embeddings
        `[N, D]`; `.npz` files with `embeddings`, and if wanted `pose` `[N, 3]` (degrees, in the
        order of the training data) and `keypoints_3d` `[N, 5, 3]`.
      feat_dim: width of the features that the network takes.
      keypoints: whether `keypoints_3d` is needed.

    Raises:
      FileNotFoundError: a path that is not there.
      ValueError: another type of file, arrays that do not fit, or poses in some inputs only.
    """
    if not inputs:
        raise ValueError(
            "no inputs; expected .npz or .npy files of embeddings, or folders of features"
        )
    parts = [_read_inputs(path, feat_dim, keypoints) for path in inputs]
    if len({part.has_pose for part in parts}) > 1:
        bare = [str(path) for path, part in zip(inputs, parts, strict=True) if not part.has_pose]
        raise ValueError(f"{', '.join(bare)} without poses, but other inputs have them")
    return FacePairs(
        arrays={
            name: np.concatenate([np.asarray(part.arrays[name]) for part in parts])
            for name in parts[0].arrays
        },
        names=[name for part in parts for name in part.names],
        persons=[person for part in parts for person in part.persons],
        front_rows=np.concatenate([part.front_rows for part in parts]),
        video_rows=np.concatenate([part.video_rows for part in parts]),
        is_paired=False,
        has_pose=parts[0].has_pose,
    )


def _read_inputs(path: pathlib.Path, feat_dim: int, keypoints: bool) -> FacePairs:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    pose = points = None
    if path.is_dir():
        side = read_face_folder(path, keypoints=keypoints).video
        check_width(side.features.shape[1], feat_dim, str(path))
        rows = np.arange(len(side))
        names, persons = row_names(side, rows), side.persons
        embeddings, pose = side.take_features(rows), side.poses
        points = side.take_keypoints(rows) if keypoints else None
    else:
        stored = read_arrays(path, npy_name="embeddings")
        embeddings = check_rows(stored.get("embeddings"), (feat_dim,), f"embeddings of {path}")
        check_directions(embeddings, f"embeddings of {path}")
        count = len(embeddings)
        names, persons = [f"{path}:{row}" for row in range(count)], [""] * count
        if "pose" in stored:
            pose = check_rows(stored["pose"], (3,), f"pose of {path}", count=count)
        if keypoints:
            points = check_rows(
                stored.get("keypoints_3d"), (5, 3), f"keypoints_3d of {path}", count=count
            )
    count = len(embeddings)
    arrays = {
        "src": embeddings,
        "tgt": embeddings,
        "pose": np.zeros((count, 3), np.float32) if pose is None else pose,
        "person": np.zeros(count, np.int32),
    }
    return FacePairs(
        arrays=arrays if points is None else arrays | {"keypoints_3d": points},
        names=names,
        persons=persons,
        front_rows=np.full(count, -1),
        video_rows=np.arange(count),
        is_paired=False,
        has_pose=pose is not None,
    )
