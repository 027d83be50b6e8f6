"""A user's MANO file (`MANO_RIGHT.pkl`, or an npz of the same names) as a `HandModel`.

MANO is licensed by its authors (https://mano.is.tue.mpg.de) and not part of this package. Only
right hands are modelled; images of left hands are mirrored.
"""

import io
import os
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrecipes.errors import cause
from jaxrecipes.files import check_content, write_bytes
from jaxrecipes.models.hand.joints import (
    MANO_JOINTS,
    MANO_PARENTS,
    NUM_JOINTS,
    NUM_ROTATIONS,
    SHAPE_SIZE,
)
from jaxrecipes.models.hand.mano_pickle import as_array, read_pickle
from jaxrecipes.models.hand.model import HandModel, joint_regressor
from jaxrecipes.paths import user_path

FINGERTIPS = (745, 317, 445, 556, 673)
"""Vertices of MANO at the tips of thumb, index, middle, ring and little finger, as in the joint
regressor of the InterWild family, which the published network was trained with."""

SMPLX_FINGERTIPS = (744, 320, 443, 554, 671)
"""The same in the package smplx."""

_BENDS = 9 * (NUM_ROTATIONS - 1)
_SHAPES: dict[str, tuple[int | str, ...]] = {
    "v_template": ("V", 3),
    "shapedirs": ("V", 3, SHAPE_SIZE),
    "posedirs": ("V", 3, _BENDS),
    "weights": ("V", NUM_ROTATIONS),
    "J_regressor": (NUM_ROTATIONS, "V"),
    "kintree_table": (2, NUM_ROTATIONS),
    "f": ("F", 3),
    "hands_mean": (3 * (NUM_ROTATIONS - 1),),
}
"""The fields that are read; the rest of a file (PCA of poses, ...) is ignored."""

_MOST_UNPACKED = 256 * 2**20  # in bytes, for an npz; a hand takes 4 million


def load_mano(
    path: str | os.PathLike[str],
    *,
    fingertips: Sequence[int] = FINGERTIPS,
    regressor: str | os.PathLike[str] | None = None,
) -> HandModel:
    """The hand in a MANO file.

    Args:
      path: `MANO_RIGHT.pkl`, or an npz of the same names (`convert_mano` writes one). Pickles are
        read without running any code in them.
      fingertips: the vertices at the tips of thumb, index, middle, ring and little finger.
      regressor: an npy file, `[21, V]` in the order of `joints.JOINT_NAMES`, in place of
        the file's joints and the fingertips.

    Returns:
      `HandModel` of float32 numpy arrays.

    Raises:
      FileNotFoundError: no such file.
      UnsafeCheckpointError: the pickle names what no MANO file needs.
      ValueError: not a MANO file, one of a left hand or of a body; a wrong regressor or fingertips.
    """
    fields = read_mano(user_path(path))
    if regressor is None:
        joints = joint_regressor(fields["J_regressor"], fingertips)
    else:
        joints = _read_regressor(user_path(regressor), len(fields["v_template"]))
    return HandModel(
        v_template=fields["v_template"],
        shapedirs=fields["shapedirs"],
        posedirs=fields["posedirs"],
        J_regressor=fields["J_regressor"],
        weights=fields["weights"],
        hands_mean=fields["hands_mean"],
        joint_regressor=joints,
        faces=fields["f"],
    )


def convert_mano(
    source: str | os.PathLike[str], target: str | os.PathLike[str]
) -> dict[str, np.ndarray]:
    """Writes the npz of a MANO pickle, and returns its arrays; raises what `load_mano` does."""
    if pathlib.Path(target).suffix != ".npz":
        raise ValueError(f"expected a file name that ends in .npz, got {target}")
    fields = read_mano(source)
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **fields)
    write_bytes(target, stream.getvalue())
    return fields


def read_mano(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The fields of a MANO file, checked: float32, and int32 the faces, int64 the tree.

    Raises:
      As `load_mano`.
    """
    stored = _stored(path)
    missing = [name for name in _SHAPES if name not in stored]
    if missing:
        raise ValueError(
            f"{path} is no MANO file: it has no {', '.join(missing)}. Wanted is MANO_RIGHT.pkl "
            "from https://mano.is.tue.mpg.de, or an npz made of it"
        )
    fields = {}
    for name in _SHAPES:
        try:
            fields[name] = as_array(stored[name])
        except ValueError as error:
            raise ValueError(f"{path}: {name} cannot be read: {error}") from error
    _check_shapes(path, fields)
    _check_tree(path, fields)
    for name, array in fields.items():
        whole = {"f": np.int32, "kintree_table": np.int64}
        fields[name] = np.ascontiguousarray(array, whole.get(name, np.float32))
    if _is_left(fields["J_regressor"] @ fields["v_template"], path):
        raise ValueError(
            f"{path} is a left hand; expected MANO_RIGHT.pkl: left hands are mirrored, and need no "
            "model of their own"
        )
    return fields


def _stored(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    check_content(path)
    if not zipfile.is_zipfile(path):
        stored = read_pickle(path)
        if not isinstance(stored, dict):
            raise ValueError(f"{path} is no MANO file: it holds no dict of fields")
        return stored
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > _MOST_UNPACKED:
            raise ValueError(f"it unpacks to {unpacked} bytes")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files if name in _SHAPES}
    except Exception as error:  # what is damaged may raise anything
        raise ValueError(f"{path} is no npz of plain arrays: {cause(error)}") from error


def _check_shapes(path: str | os.PathLike[str], fields: Mapping[str, np.ndarray]) -> None:
    template, faces = fields["v_template"], fields["f"]
    sizes: dict[int | str, int] = {
        "V": len(template) if template.ndim else 0,
        "F": len(faces) if faces.ndim else 0,
    }
    wrong = [
        f"{name} {fields[name].shape} instead of {wanted}"
        for name, shape in _SHAPES.items()
        if fields[name].shape != (wanted := tuple(sizes.get(n, n) for n in shape))
    ]
    if wrong:
        raise ValueError(f"{path} is no MANO hand of 16 joints: {'; '.join(wrong)}")
    infinite = [name for name, array in fields.items() if not np.isfinite(array).all()]
    if infinite:
        raise ValueError(f"{path} is damaged: values that are not finite in {', '.join(infinite)}")
    if faces.size and not 0 <= faces.min() <= faces.max() < sizes["V"]:
        raise ValueError(f"{path} is damaged: f names vertices beyond its {sizes['V']}")


def _check_tree(path: str | os.PathLike[str], fields: Mapping[str, np.ndarray]) -> None:
    parents = tuple(fields["kintree_table"][0, 1:].astype(np.int64).tolist())
    if parents != MANO_PARENTS[1:]:
        raise ValueError(
            f"{path} is no MANO hand: the parents of its joints are {parents}, "
            f"instead of {MANO_PARENTS[1:]}"
        )


def _is_left(joints: np.ndarray, path: str | os.PathLike[str]) -> bool:
    """By the file's name, or because the thumb of a flat hand lies on the other side of the palm.

    The side is told only where the 16 joints `[16, 3]` are laid out like those of a hand.
    """
    if "left" in pathlib.Path(path).stem.lower():
        return True
    at = dict(zip(MANO_JOINTS, joints - joints[0], strict=True))
    fingers = ("Index", "Middle", "Ring", "Pinky")
    forward = sum(at[f"{finger}_1"] for finger in fingers)
    across = at["Index_1"] - at["Pinky_1"]
    back = np.cross(forward, across)  # of a right hand; the thumb is on the palm's side
    spread = [float(at[f"{finger}_1"] @ across) for finger in fingers]
    reach = [[float(at[f"{finger}_{i}"] @ forward) for i in (1, 2, 3)] for finger in fingers]
    like_a_hand = spread == sorted(spread, reverse=True) and all(r == sorted(r) for r in reach)
    height = float(at["Thumb_3"] @ back) / max(float(np.linalg.norm(back)), 1e-12)
    return like_a_hand and height > 0.01 * float(np.linalg.norm(forward))


def _read_regressor(path: str | os.PathLike[str], vertices: int) -> np.ndarray:
    check_content(path)
    try:
        regressor = np.load(path, allow_pickle=False)
    except Exception as error:  # what is damaged may raise anything
        raise ValueError(f"{path} is no npy file of plain numbers: {cause(error)}") from error
    wanted = (NUM_JOINTS, vertices)
    if not isinstance(regressor, np.ndarray) or regressor.shape != wanted:
        shape = getattr(regressor, "shape", "several arrays")
        raise ValueError(f"{path}: expected a joint regressor {wanted}, got {shape}")
    if regressor.dtype.kind not in "iuf" or not np.isfinite(regressor).all():
        raise ValueError(f"{path}: expected finite numbers, got {regressor.dtype}")
    return regressor.astype(np.float32)
