"""Geometric augmentation of hands: draws, and what they make of a camera's view.

One draw for each sample is shared by its T frames. All of it is arithmetic on small matrices and
belongs inside the jitted step.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxrecipes.models.hand.camera import (
    intrinsics,
    inverse_intrinsics,
    turn_in_plane,
    turn_to_axis,
    view_change_2d,
    view_change_3d,
)
from jaxrecipes.models.hand.rotations import axis_angle_to_matrix

Array = jax.Array

_UNIFORM = ("rad", "scale_z", "scale_f", "persp_dir", "persp_rot")
_HIGHEST = jax.lax.Precision.HIGHEST

PRINCPT_NOISE = 0.1111111
"""Standard deviation of the principal point, as a share of its distance from the corner."""

NO_DRAWS = {name: np.zeros(1, np.float32) for name in _UNIFORM}
NO_DRAWS |= {"princpt_noise": np.zeros((1, 2), np.float32)}
NO_RANGES = {"scale_z_min": 1.0, "scale_z_max": 1.0, "scale_f_min": 1.0, "scale_f_max": 1.0}
NO_RANGES |= {"princpt_noise": 0.0, "persp_rot_max": 0.0, "in_plane_rot_max": 0.0}
"""With these draws and ranges the view stays as it is."""


class View(NamedTuple):
    """A change of view, for every frame.

    Attributes:
      focal, princpt: `[B, T, 2]` pixels of the new camera.
      points: `[B, T, 3, 3]`, what happens to points in the camera's space.
      image: `[B, T, 3, 3]`, what happens to the image's pixels.
      back: `[B, T, 3, 3]`, the inverse of `image`.
      root: `[B, T, 3, 3]`, what turns the hand's orientation.
    """

    focal: Array
    princpt: Array
    points: Array
    image: Array
    back: Array
    root: Array


def draw(key: Array, batch_size: int) -> dict[str, Array]:
    """Raw random numbers for `drawn_view`, one set a sample.

    Returns:
      `rad`, `scale_z`, `scale_f`, `persp_dir`, `persp_rot` `[B]` uniform in [0, 1);
      `princpt_noise` `[B, 2]` standard normal.
    """
    uniform_key, normal_key = jax.random.split(key)
    uniform = jax.random.uniform(uniform_key, (len(_UNIFORM), batch_size), jnp.float32)
    return dict(zip(_UNIFORM, uniform, strict=True)) | {
        "princpt_noise": jax.random.normal(normal_key, (batch_size, 2), jnp.float32)
    }


def drawn_view(
    focal: Array,
    princpt: Array,
    draws: Mapping[str, ArrayLike],
    ranges: Mapping[str, ArrayLike],
    *,
    center: Array | None = None,
    root_fix: bool = True,
) -> View:
    """The view that draws give.

    Turned about the optical axis by at most `in_plane_rot_max` either way, stretched in depth,
    turned aside by at most `persp_rot_max`, seen by a camera with another focal length and
    principal point.

    Args:
      focal: `[B, T, 2]` pixels.
      princpt: `[B, T, 2]` pixels.
      draws: of `draw`.
      ranges: scalars that may be traced: `scale_z_min`, `scale_z_max`, `scale_f_min`,
        `scale_f_max`, `persp_rot_max` in radians; `in_plane_rot_max` in radians, without which any
        angle may come, and `princpt_noise`, without which it is `PRINCPT_NOISE`.
      center: `[B, T, 2]` pixels; the ray through it is first turned onto the optical axis, and in
        return the view is not turned aside.
      root_fix: turn the hand's orientation aside as well, as its points are.
    """
    frames = focal.shape[:2]

    def between(name: str, low: ArrayLike, high: ArrayLike) -> Array:
        share = jnp.asarray(draws[name])[:, None]
        low, high = jnp.asarray(low, jnp.float32), jnp.asarray(high, jnp.float32)
        return jnp.broadcast_to(low + (high - low) * share, frames)

    rad = jnp.asarray(draws["rad"])
    # Of a whole turn: 0 to 1/2 one way, then 1/2 to 0 the other way.
    angle = (rad - jnp.round(rad))[:, None] * 2.0 * ranges.get("in_plane_rot_max", jnp.pi)
    angle = jnp.broadcast_to(angle, frames)
    scale_z = between("scale_z", ranges["scale_z_min"], ranges["scale_z_max"])
    scale_f = between("scale_f", ranges["scale_f_min"], ranges["scale_f_max"])
    shift = jnp.asarray(draws["princpt_noise"])[:, None] * ranges.get(
        "princpt_noise", PRINCPT_NOISE
    )
    aside = jnp.broadcast_to(jnp.eye(3, dtype=jnp.float32), (*frames, 3, 3))
    if center is None:
        direction = between("persp_dir", 0.0, 2.0 * jnp.pi)
        axis = jnp.stack(
            [jnp.cos(direction), jnp.sin(direction), jnp.zeros(frames, jnp.float32)], axis=-1
        )
        turn = between("persp_rot", 0.0, ranges["persp_rot_max"])
        aside = axis_angle_to_matrix(axis * turn[..., None])
    new_focal = focal * scale_f[..., None]
    new_princpt = princpt + shift * jnp.linalg.norm(princpt, axis=-1, keepdims=True)
    cameras = {"focal": focal, "princpt": princpt}
    cameras |= {"new_focal": new_focal, "new_princpt": new_princpt}
    points = view_change_3d(angle, scale_z, aside)
    image = view_change_2d(angle, scale_z, aside, **cameras)
    # Its inverse, of the inverses of its parts.
    wide = jnp.stack([scale_z, scale_z, jnp.ones(frames, jnp.float32)], axis=-1)[..., None]
    back = _product(turn_in_plane(-angle), wide * jnp.swapaxes(aside, -1, -2))
    root = turn_in_plane(angle)
    if root_fix:
        root = _product(aside, root)
    from_rays, to_rays = intrinsics(focal, princpt), inverse_intrinsics(focal, princpt)
    if center is not None:
        ahead = turn_to_axis(center, focal, princpt)
        points, root = _product(points, ahead), _product(root, ahead)
        image = _product(image, from_rays, ahead, to_rays)
        back = _product(jnp.swapaxes(ahead, -1, -2), back)
    return View(
        focal=new_focal,
        princpt=new_princpt,
        points=points,
        image=image,
        back=_product(from_rays, back, inverse_intrinsics(new_focal, new_princpt)),
        root=root,
    )


def _product(first: Array, *others: Array) -> Array:
    for matrix in others:
        first = jnp.matmul(first, matrix, precision=_HIGHEST)
    return first
