"""Pinhole cameras: projection, and rotating, stretching or re-centring the view of a camera.

The camera frame is x right, y down, z forward, in mm; pixels are (x, y). A camera is its focal
lengths and its principal point, `[..., 2]` each, in pixels.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxrecipes.broadcasting import as_array, same_rank
from jaxrecipes.models.hand.rotations import axis_angle_to_matrix

_HIGHEST = jax.lax.Precision.HIGHEST  # faster formats of a GPU are off by pixels


def project(points: ArrayLike, focal: ArrayLike, princpt: ArrayLike, *, eps: float = 1e-8) -> Array:
    """Pixels of points in front of a camera.

    Args:
      points: `[..., 3]` in the camera frame.
      focal: `[..., 2]`, broadcast against the points.
      princpt: `[..., 2]`, likewise.
      eps: lower bound of the depths.

    Returns:
      `[..., 2]`.
    """
    points, focal, princpt = same_rank(points, focal, princpt)
    return points[..., :2] / jnp.maximum(points[..., 2:], eps) * focal + princpt


def intrinsics(focal: ArrayLike, princpt: ArrayLike) -> Array:
    """`[..., 3, 3]` K, from rays to homogeneous pixels."""
    focal, princpt = jnp.broadcast_arrays(*same_rank(focal, princpt))
    return _scale_and_shift(focal, princpt)


def inverse_intrinsics(focal: ArrayLike, princpt: ArrayLike) -> Array:
    """`[..., 3, 3]` the inverse of `intrinsics`."""
    focal, princpt = jnp.broadcast_arrays(*same_rank(focal, princpt))
    return _scale_and_shift(1.0 / focal, -princpt / focal)


def turn_in_plane(angle: ArrayLike) -> Array:
    """`[..., 3, 3]` the rotation about the optical axis by `[...]` radians."""
    angle = as_array(angle)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    zero, one = jnp.zeros_like(cos), jnp.ones_like(cos)
    return _matrix([[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]])


def view_change_3d(angle: ArrayLike, scale_z: ArrayLike, rotation: ArrayLike) -> Array:
    """What a change of view does to points: an in-plane rotation, a stretch in depth, a rotation.

    Args:
      angle: `[...]` radians about the optical axis, applied first.
      scale_z: `[...]` factor of the depths.
      rotation: `[..., 3, 3]`, applied last.

    Returns:
      `[..., 3, 3]`.
    """
    return _product(_scale_columns(rotation, 1.0, scale_z), turn_in_plane(angle))


def view_change_2d(
    angle: ArrayLike,
    scale_z: ArrayLike,
    rotation: ArrayLike,
    *,
    focal: ArrayLike,
    princpt: ArrayLike,
    new_focal: ArrayLike,
    new_princpt: ArrayLike,
) -> Array:
    """What the same change does to the image, from one camera to another.

    It maps the projection of a point by `focal` and `princpt` to the projection, by `new_focal` and
    `new_princpt`, of the point that `view_change_3d` moved.

    Args:
      angle: as in `view_change_3d`.
      scale_z: as there.
      rotation: as there.
      focal: `[..., 2]` pixels, of the camera before the change.
      princpt: `[..., 2]` pixels, of that camera.
      new_focal: `[..., 2]` pixels, of the camera after it.
      new_princpt: `[..., 2]` pixels, of that camera.

    Returns:
      `[..., 3, 3]`, for `transform_points`.
    """
    squeezed = _scale_columns(rotation, 1.0 / as_array(scale_z), 1.0)
    to_rays = _product(turn_in_plane(angle), inverse_intrinsics(focal, princpt))
    return _product(_product(intrinsics(new_focal, new_princpt), squeezed), to_rays)


def turn_to_axis(pixel: ArrayLike, focal: ArrayLike, princpt: ArrayLike) -> Array:
    """The smallest rotation that maps the ray through a pixel to the optical axis.

    Args:
      pixel: `[..., 2]`.
      focal: `[..., 2]`.
      princpt: `[..., 2]`.

    Returns:
      `[..., 3, 3]`; the identity if the ray is within 1e-7 of the axis.
    """
    pixel, focal, princpt = same_rank(pixel, focal, princpt)
    ray = (pixel - princpt) / focal
    squared = jnp.sum(ray * ray, -1)
    off = squared >= 1e-14
    tangent = jnp.sqrt(jnp.where(off, squared, 1.0))
    angle = jnp.where(off, jnp.arctan(tangent) / tangent, 0.0)
    axis = jnp.stack([ray[..., 1], -ray[..., 0], jnp.zeros_like(angle)], -1)
    return axis_angle_to_matrix(axis * angle[..., None])


def transform_points(matrix: ArrayLike, points: ArrayLike, *, eps: float = 1e-8) -> Array:
    """Maps pixels by a projective matrix.

    Args:
      matrix: `[..., 3, 3]`.
      points: `[..., N, 2]`.
      eps: there is no division if the third coordinate is not larger.

    Returns:
      `[..., N, 2]`.
    """
    matrix, points = jnp.asarray(matrix), jnp.asarray(points)
    moved = jnp.einsum("...ij,...nj->...ni", matrix[..., :2], points, precision=_HIGHEST)
    moved = moved + matrix[..., None, :, 2]
    depth = moved[..., 2:]
    regular = jnp.abs(depth) > eps
    return moved[..., :2] / jnp.where(regular, depth, 1.0)


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=_HIGHEST)


def _scale_and_shift(scale: Array, shift: Array) -> Array:
    zero, one = jnp.zeros_like(scale[..., 0]), jnp.ones_like(scale[..., 0])
    rows = [[scale[..., 0], zero, shift[..., 0]], [zero, scale[..., 1], shift[..., 1]]]
    return _matrix([*rows, [zero, zero, one]])


def _scale_columns(matrix: ArrayLike, plane: ArrayLike, depth: ArrayLike) -> Array:
    """`matrix @ diag(plane, plane, depth)`."""
    plane, depth = jnp.broadcast_arrays(*same_rank(plane, depth))
    matrix, scales = same_rank(matrix, jnp.stack([plane, plane, depth], -1)[..., None, :])
    return matrix * scales


def _matrix(rows: list[list[Array]]) -> Array:
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)
