"""Numbers that the hand decoder reads from files when it is initialised."""

import jax
import numpy as np

from jaxrecipes.data.array_files import check_rows, read_arrays
from jaxrecipes.models.hand.joints import NUM_ROTATIONS, SHAPE_SIZE
from jaxrecipes.models.hand.rotations import (
    JointType,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    sixd_to_matrix,
)
from jaxrecipes.paths import user_path
from jaxrecipes.recipes.hand_pose.network_config import HandPoseConfig


def decoder_constants(config: HandPoseConfig) -> dict[str, np.ndarray]:
    """The constants of `HandDecoder` that its configuration takes from files.

    Returns:
      With `use_mean_init` `init_hand_pose`, `init_betas` and `init_cam`, with `denorm_output`
      `scale_tril` and `output_mean`; float32.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a file without the fields, or with fields of other shapes.
    """
    constants: dict[str, np.ndarray] = {}
    if config.handec.use_mean_init is not None:
        constants |= read_mean_hand(config.handec.use_mean_init, config.joint_type)
    if config.handec.denorm_output is not None:
        constants |= read_output_statistics(config.handec.denorm_output, config.output_size)
    return constants


def read_mean_hand(path: str, joint_type: JointType) -> dict[str, np.ndarray]:
    """The mean hand of an .npz with `pose` `[96]` (6-D), `shape` `[10]` and `cam` `[3]`.

    Returns:
      `init_hand_pose` in the rotations of `joint_type`, `init_betas` and `init_cam`.

    Raises:
      As `decoder_constants`.
    """
    sixd = 6 * NUM_ROTATIONS
    pose, betas, cam = _read(path, {"pose": (sixd,), "shape": (SHAPE_SIZE,), "cam": (3,)})
    return {
        "init_hand_pose": sixd_as(pose, joint_type),
        "init_betas": betas,
        "init_cam": cam,
    }


def sixd_as(pose: np.ndarray, joint_type: JointType) -> np.ndarray:
    """6-D rotations `[J * 6]` as rotations of another type, `[J * width]`."""
    if joint_type == "6d":
        return pose
    convert = {"3": matrix_to_axis_angle, "quat": matrix_to_quaternion}[joint_type]
    with jax.ensure_compile_time_eval():  # also within a program that draws the parameters
        return np.asarray(convert(sixd_to_matrix(pose.reshape(-1, 6)))).ravel()


def read_output_statistics(path: str, size: int) -> dict[str, np.ndarray]:
    """What turns standard numbers into outputs with the `mean` and `cov` of an .npz.

    Args:
      path: the file, with `mean` `[size]` and `cov` `[size, size]`.
      size: numbers of pose, shape and root.

    Returns:
      `scale_tril` `[size, size]`, the transposed Cholesky factor of cov + 1e-6 I, and
      `output_mean` `[size]`.

    Raises:
      As `decoder_constants`; also for a `cov` that is no covariance.
    """
    mean, cov = _read(path, {"mean": (size,), "cov": (size, size)})
    try:
        factor = np.linalg.cholesky(cov.astype(np.float64) + 1e-6 * np.eye(size))
    except np.linalg.LinAlgError as error:
        raise ValueError(f"`cov` of {path} is not positive definite: {error}") from error
    return {"scale_tril": factor.T.astype(np.float32), "output_mean": mean}


def _read(path: str, shapes: dict[str, tuple[int, ...]]) -> list[np.ndarray]:
    arrays = read_arrays(user_path(path), npy_name="pose")
    return [
        check_rows(_flat(arrays.get(name), shape), shape[1:], f"`{name}` of {path}", count=shape[0])
        for name, shape in shapes.items()
    ]


def _flat(array: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """A vector that was stored with leading axes of length 1, without them."""
    if array is not None and len(shape) == 1 and array.size == shape[0]:
        return array.ravel()
    return array
