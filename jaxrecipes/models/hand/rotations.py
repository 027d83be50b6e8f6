"""Rotations as axis-angle vectors, matrices, quaternions and pairs of columns ("6-D").

Conventions: matrices rotate column vectors; quaternions are (w, x, y, z); 6-D is the first column,
then the second (Zhou et al., "On the Continuity of Rotation Representations", CVPR 2019). All
functions take any leading axes, and have finite gradients everywhere, the identity included.

Source: kornia's conversions, whose guards against division by zero are kept, and for `rodrigues`
smplx, so that data and MANO come out as in the programs that use those.
"""

from typing import Literal, get_args

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxrecipes.broadcasting import aligned
from jaxrecipes.errors import unknown_name

JointType = Literal["3", "6d", "quat"]
"""How a pose represents rotations: axis-angle, 6-D, or quaternion."""

_WIDTHS: dict[str, int] = {"3": 3, "6d": 6, "quat": 4}


def rotation_width(joint_type: JointType) -> int:
    """Numbers per rotation.

    Raises:
      ValueError: an unknown type.
    """
    if joint_type not in _WIDTHS:
        raise unknown_name("joint type", joint_type, get_args(JointType))
    return _WIDTHS[joint_type]


def axis_angle_to_matrix(axis_angle: ArrayLike) -> Array:
    """`[..., 3]` radians to `[..., 3, 3]`; up to a squared angle of 1e-6 to first order.

    The axis is divided by the angle + 1e-6, so a matrix is off by some 1e-6.
    """
    vector = _check(axis_angle, 3)
    squared = _dot(vector, vector)
    angle = jnp.sqrt(jnp.maximum(squared, 1e-12))
    turned = _rodrigues(vector / (angle + 1e-6)[..., None], jnp.sin(angle), 1.0 - jnp.cos(angle))
    small = _identity(vector) + _cross_matrix(vector)
    return jnp.where((squared > 1e-6)[..., None, None], turned, small)


def rodrigues(axis_angle: ArrayLike) -> Array:
    """`[..., 3]` radians to `[..., 3, 3]`, as in MANO's layer.

    1e-8 is added to each component before the angle is measured.
    """
    vector = _check(axis_angle, 3)
    shifted = vector + 1e-8
    angle = jnp.sqrt(_dot(shifted, shifted))
    half = jnp.sin(0.5 * angle) / angle
    return _rodrigues(vector, jnp.sin(angle) / angle, 2.0 * half * half)


def axis_angle_to_quaternion(axis_angle: ArrayLike) -> Array:
    """`[..., 3]` radians to `[..., 4]` unit quaternions."""
    vector = _check(axis_angle, 3)
    squared = _dot(vector, vector)
    turned = squared > 0
    angle = jnp.sqrt(jnp.where(turned, squared, 1.0))
    scale = jnp.where(turned, jnp.sin(0.5 * angle) / angle, 0.5)
    real = jnp.where(turned, jnp.cos(0.5 * angle), 1.0)
    return jnp.concatenate([real[..., None], vector * scale[..., None]], -1)


def quaternion_to_axis_angle(quaternion: ArrayLike) -> Array:
    """`[..., 4]`, of any length but 0, to `[..., 3]` radians of at most pi."""
    real, vector = jnp.split(_check(quaternion, 4), [1], -1)
    real = real[..., 0]
    squared = _dot(vector, vector)
    turned = squared > 0
    sine = jnp.sqrt(jnp.where(turned, squared, 1.0))
    sign = jnp.where(real < 0, -1.0, jnp.ones_like(real))
    angle = 2.0 * jnp.arctan2(sign * sine, sign * real)
    return vector * jnp.where(turned, angle / sine, 2.0)[..., None]


def matrix_to_quaternion(matrix: ArrayLike) -> Array:
    """`[..., 3, 3]` to `[..., 4]`; w is positive unless the rotation is almost a half turn."""
    m = _check_matrix(matrix)
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = (
        m[..., 2, 1] - m[..., 1, 2],
        m[..., 0, 2] - m[..., 2, 0],
        m[..., 1, 0] - m[..., 0, 1],
    )
    xy, xz, yz = (
        m[..., 0, 1] + m[..., 1, 0],
        m[..., 0, 2] + m[..., 2, 0],
        m[..., 1, 2] + m[..., 2, 1],
    )
    # Row i is 4 q_i q, so any row gives q; the one of a large q_i is accurate.
    by_w = jnp.stack([1.0 + xx + yy + zz, wx, wy, wz], -1)
    by_x = jnp.stack([wx, 1.0 + xx - yy - zz, xy, xz], -1)
    by_y = jnp.stack([wy, xy, 1.0 - xx + yy - zz, yz], -1)
    by_z = jnp.stack([wz, xz, yz, 1.0 - xx - yy + zz], -1)
    use_w, use_x, use_y = xx + yy + zz > 0, (xx > yy) & (xx > zz), yy > zz

    def chosen(w: Array, x: Array, y: Array, z: Array) -> Array:
        shape = (...,) + (None,) * (w.ndim - use_w.ndim)
        rest = jnp.where(use_x[shape], x, jnp.where(use_y[shape], y, z))
        return jnp.where(use_w[shape], w, rest)

    row = chosen(by_w, by_x, by_y, by_z)
    square = chosen(by_w[..., 0], by_x[..., 1], by_y[..., 2], by_z[..., 3])
    return row / (2.0 * jnp.sqrt(jnp.maximum(square, 0.0) + 1e-8))[..., None]


def quaternion_to_matrix(quaternion: ArrayLike) -> Array:
    """`[..., 4]`, of any length but 0, to `[..., 3, 3]`."""
    w, x, y, z = jnp.moveaxis(_normalise(_check(quaternion, 4)), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def matrix_to_axis_angle(matrix: ArrayLike) -> Array:
    """`[..., 3, 3]` to `[..., 3]` radians of at most pi, through a quaternion."""
    return quaternion_to_axis_angle(matrix_to_quaternion(matrix))


def matrix_to_sixd(matrix: ArrayLike) -> Array:
    """`[..., 3, 3]` to `[..., 6]`: the first column, then the second."""
    m = _check_matrix(matrix)
    return jnp.concatenate([m[..., 0], m[..., 1]], -1)


def sixd_to_matrix(sixd: ArrayLike) -> Array:
    """`[..., 6]`, two directions that are not parallel, to `[..., 3, 3]` by Gram-Schmidt."""
    first, second = jnp.split(_check(sixd, 6), 2, -1)
    first = _normalise(first)
    second = _normalise(second - first * _dot(first, second)[..., None])
    return jnp.stack([first, second, jnp.cross(first, second)], -1)


def to_axis_angle(pose: ArrayLike, joint_type: JointType) -> Array:
    """`[..., J * width]` of a type to `[..., J * 3]` radians; "3" is returned unchanged.

    Raises:
      ValueError: an unknown type, or a width that is not a multiple of its own.
    """
    rotations = _split(pose, rotation_width(joint_type))
    if joint_type == "6d":
        rotations = matrix_to_axis_angle(sixd_to_matrix(rotations))
    elif joint_type == "quat":
        rotations = quaternion_to_axis_angle(rotations)
    return _join(rotations)


def from_axis_angle(pose: ArrayLike, joint_type: JointType) -> Array:
    """`[..., J * 3]` radians to `[..., J * width]` of a type; the inverse of `to_axis_angle`."""
    rotation_width(joint_type)
    rotations = _split(pose, 3)
    if joint_type == "6d":
        rotations = matrix_to_sixd(axis_angle_to_matrix(rotations))
    elif joint_type == "quat":
        rotations = axis_angle_to_quaternion(rotations)
    return _join(rotations)


def _split(pose: ArrayLike, width: int) -> Array:
    pose = jnp.asarray(pose)
    if pose.ndim == 0 or pose.shape[-1] % width:
        raise ValueError(f"expected a pose [..., J * {width}], got shape {pose.shape}")
    return pose.reshape(*pose.shape[:-1], pose.shape[-1] // width, width)


def _join(rotations: Array) -> Array:
    return rotations.reshape(*rotations.shape[:-2], -1)


def _check(value: ArrayLike, width: int) -> Array:
    value = jnp.asarray(value)
    if value.shape[-1:] != (width,):
        raise ValueError(f"expected an array [..., {width}], got shape {value.shape}")
    return value


def _check_matrix(matrix: ArrayLike) -> Array:
    matrix = jnp.asarray(matrix)
    if matrix.shape[-2:] != (3, 3):
        raise ValueError(f"expected matrices [..., 3, 3], got shape {matrix.shape}")
    return matrix


def _dot(a: Array, b: Array) -> Array:
    return jnp.sum(a * b, -1)


def _normalise(vector: Array) -> Array:
    """Divided by its length, or by 1e-12 if that is more."""
    return vector / jnp.sqrt(jnp.maximum(_dot(vector, vector), 1e-24))[..., None]


def _identity(vector: Array) -> Array:
    """For `[..., 3]`: `[..., 3, 3]`, with leading axes of length 1."""
    identity = jnp.eye(3, dtype=vector.dtype)
    return aligned(identity, vector[..., None])


def _cross_matrix(vector: Array) -> Array:
    """`[..., 3, 3]` K with K u = vector x u."""
    x, y, z = jnp.moveaxis(vector, -1, 0)
    zero = jnp.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def _rodrigues(vector: Array, first: Array, second: Array) -> Array:
    """`I + first * K + second * K^2` with the cross matrix K of the vector."""
    identity = _identity(vector)
    square = vector[..., :, None] * vector[..., None, :]  # K^2 = v v^T - |v|^2 I
    square = square - _dot(vector, vector)[..., None, None] * identity
    first, second = first[..., None, None], second[..., None, None]
    return identity + first * _cross_matrix(vector) + second * square
