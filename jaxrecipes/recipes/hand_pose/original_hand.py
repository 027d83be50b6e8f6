"""MANO, the hand inside the original's weights: taken out and put back."""

import os
import pathlib
from collections.abc import Mapping

import numpy as np

from jaxrecipes.convert.rules import ConversionError
from jaxrecipes.models.hand.joints import MANO_PARENTS, NUM_JOINTS, NUM_ROTATIONS
from jaxrecipes.models.hand.model import HandModel

_JOINTS, _LAYER, _LOSS = "J_regressor_mano", "rmano_layer.", "loss_fn."
_BINS = "handec.deccam."

# ours -> theirs, within the layer
_ARRAYS = {
    "v_template": "v_template",
    "shapedirs": "shapedirs",
    "J_regressor": "J_regressor",
    "weights": "lbs_weights",
    "hands_mean": "hand_mean",
    "faces": "faces_tensor",
}
_TIPS = (744, 320, 443, 554, 671)  # smplx's, which the original does not use
_ZEROS = {"betas": 10, "body_pose": 3, "global_orient": 3, "hand_pose": 45, "transl": 3}


def stored_hand(state_dict: Mapping[str, np.ndarray]) -> HandModel:
    """The hand that a state dict of the original holds; its licence does not allow passing it on.

    Raises:
      ConversionError: it holds none, or not the whole.
    """
    keys = [_JOINTS, *(f"{_LAYER}{name}" for name in (*_ARRAYS.values(), "posedirs"))]
    absent = [key for key in keys if key not in state_dict]
    if absent:
        raise ConversionError(f"the weights hold no whole hand: {', '.join(absent)} missing")
    arrays = {ours: np.asarray(state_dict[f"{_LAYER}{theirs}"]) for ours, theirs in _ARRAYS.items()}
    vertices = len(arrays["v_template"])
    posedirs = np.asarray(state_dict[f"{_LAYER}posedirs"], np.float32)
    features = 9 * (NUM_ROTATIONS - 1)
    if posedirs.shape != (features, 3 * vertices):
        raise ConversionError(
            f"{_LAYER}posedirs: expected [{features}, {3 * vertices}], got {posedirs.shape}"
        )
    joints = np.asarray(state_dict[_JOINTS], np.float32)
    if joints.shape != (NUM_JOINTS, vertices):
        raise ConversionError(f"{_JOINTS}: expected [{NUM_JOINTS}, {vertices}], got {joints.shape}")
    faces = arrays.pop("faces").astype(np.int32)
    return HandModel(
        **{name: array.astype(np.float32) for name, array in arrays.items()},
        posedirs=np.ascontiguousarray(posedirs.T).reshape(vertices, 3, features),
        joint_regressor=joints,
        faces=faces,
    )


def with_hand(state_dict: Mapping[str, np.ndarray], hand: HandModel) -> dict[str, np.ndarray]:
    """A state dict of the original with a hand and its loss; the inverse of `without_hand`."""
    layer = {theirs: np.asarray(getattr(hand, ours)) for ours, theirs in _ARRAYS.items()}
    posedirs = np.asarray(hand.posedirs, np.float32)
    mean = np.asarray(hand.hands_mean, np.float32)
    layer |= {
        "faces_tensor": layer["faces_tensor"].astype(np.int64),
        "posedirs": np.ascontiguousarray(posedirs.reshape(-1, posedirs.shape[-1]).T),
        "pose_mean": np.concatenate([np.zeros(3, np.float32), mean]),
        "parents": np.array(MANO_PARENTS, np.int64),
        "vertex_joint_selector.extra_joints_idxs": np.array(_TIPS, np.int64),
        **{name: np.zeros((1, count), np.float32) for name, count in _ZEROS.items()},
    }
    tensors = {_JOINTS: np.asarray(hand.joint_regressor, np.float32)}
    tensors |= {f"{_LAYER}{name}": array for name, array in layer.items()}
    loss = {f"{_LOSS}{_LAYER}{key}": array for key, array in tensors.items()}
    centres = {
        key.replace(_BINS, _LOSS): array
        for key, array in state_dict.items()
        if key.startswith(_BINS) and key.endswith("_centers")
    }
    return {**state_dict, **tensors, **loss, **centres}


def write_hand(
    file: str | os.PathLike[str], hand: HandModel, *, regressor: str | os.PathLike[str]
) -> None:
    """Writes a hand as `jaxrecipes.models.hand.mano.load_mano(file, regressor=regressor)` reads it.

    Args:
      file: the .npz to write, with the names of a MANO file.
      hand: such as `stored_hand` gives.
      regressor: the .npy to write the 21 joints' regressor to.

    Raises:
      ValueError: file names with other endings.
    """
    contents = {
        name: np.asarray(getattr(hand, name))
        for name in ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "hands_mean")
    }
    tree = np.array([MANO_PARENTS, range(NUM_ROTATIONS)], np.int64)
    contents |= {"f": np.asarray(hand.faces), "kintree_table": tree}
    for path, suffix in ((file, ".npz"), (regressor, ".npy")):
        if pathlib.Path(path).suffix != suffix:
            raise ValueError(f"expected a file name that ends in {suffix}, got {path}")
    np.savez_compressed(file, allow_pickle=False, **contents)
    np.save(regressor, np.asarray(hand.joint_regressor, np.float32), allow_pickle=False)


def without_hand(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state dict of the original without hand and loss."""
    return {
        key: array
        for key, array in state_dict.items()
        if key != _JOINTS and not key.startswith((_LAYER, _LOSS))
    }
