"""A hand with 16 rotating joints: blend shapes, a kinematic chain and linear blend skinning.

Source: MANO (Romero, Tzionas, Black, "Embodied Hands", SIGGRAPH Asia 2017) as computed by smplx,
with the mean pose added and the 21 joints regressed from the posed vertices. The numbers are data:
a user's MANO file (`jaxrecipes.models.hand.mano`) or the procedural hand.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike

from jaxrecipes.models.hand.joints import (
    MANO_TO_HAND,
    NUM_JOINTS,
    NUM_ROTATIONS,
    POSE_SIZE,
    SHAPE_SIZE,
    TIPS,
)
from jaxrecipes.models.hand.rotations import rodrigues

_HIGHEST = jax.lax.Precision.HIGHEST  # faster formats of a GPU are off by tenths of a millimetre


@struct.dataclass
class HandModel:
    """The description of a right hand; a pytree of arrays, in metres.

    Joints are those of `joints.MANO_JOINTS`, connected as in its `MANO_PARENTS`.

    Attributes:
      v_template: `[V, 3]` vertices at rest.
      shapedirs: `[V, 3, 10]`, what each shape parameter adds to them.
      posedirs: `[V, 3, 135]`, what each element of the 15 rotations minus the identity adds.
      J_regressor: `[16, V]` joints from vertices at rest.
      weights: `[V, 16]` skinning weights; rows sum to 1.
      hands_mean: `[45]` radians, added to the pose of the 15 joints after the wrist.
      joint_regressor: `[21, V]` the joints of `joints.JOINT_NAMES` from posed vertices.
      faces: `[F, 3]` int32 triangles.
    """

    v_template: ArrayLike
    shapedirs: ArrayLike
    posedirs: ArrayLike
    J_regressor: ArrayLike
    weights: ArrayLike
    hands_mean: ArrayLike
    joint_regressor: ArrayLike
    faces: ArrayLike


class HandGeometry(NamedTuple):
    """A posed hand.

    Attributes:
      joint_rel: `[..., 21, 3]` mm from the wrist.
      verts_rel: `[..., V, 3]` mm from the wrist.
      vertices: `[..., V, 3]` m, as MANO places them.
      joints16: `[..., 16, 3]` m, the rotating joints.
    """

    joint_rel: jax.Array
    verts_rel: jax.Array
    vertices: jax.Array
    joints16: jax.Array


def hand_geometry(model: HandModel, pose: ArrayLike, betas: ArrayLike) -> HandGeometry:
    """The posed hand.

    Args:
      model: the hand.
      pose: `[..., 48]` axis-angle, radians; the wrist's is the orientation of the whole hand, the
        others are relative to the mean hand.
      betas: `[..., 10]` shape.

    Returns:
      `HandGeometry`, whose millimetres are relative to the regressed wrist. No gradient flows
      through that wrist.

    Raises:
      ValueError: pose or betas of another width, or different leading axes.
    """
    pose, betas = jnp.asarray(pose, jnp.float32), jnp.asarray(betas, jnp.float32)
    leading = pose.shape[:-1]
    if pose.shape != (*leading, POSE_SIZE) or betas.shape != (*leading, SHAPE_SIZE):
        raise ValueError(
            f"expected pose [..., {POSE_SIZE}] and betas [..., {SHAPE_SIZE}] of equal "
            f"leading axes, "
            f"got {pose.shape} and {betas.shape}"
        )
    vertices, joints16 = _skinned(model, pose.reshape(-1, POSE_SIZE), betas.reshape(-1, SHAPE_SIZE))
    joints = _regress(model.joint_regressor, vertices)
    wrist = jax.lax.stop_gradient(joints[:, :1])
    arrays = (1000.0 * (joints - wrist), 1000.0 * (vertices - wrist), vertices, joints16)
    return HandGeometry(*(array.reshape(*leading, *array.shape[1:]) for array in arrays))


def joint_regressor(J_regressor: np.ndarray, tips: Sequence[int]) -> np.ndarray:
    """The regressor of 21 joints: that of the rotating joints, and one vertex for each tip.

    Args:
      J_regressor: `[16, V]` in MANO's order.
      tips: the vertices at the tips of thumb, index, middle, ring and little finger.

    Returns:
      `[21, V]` float32 in the order of `joints.JOINT_NAMES`.

    Raises:
      ValueError: not five vertices of the V.
    """
    rows, count = J_regressor.shape
    if rows != NUM_ROTATIONS:
        raise ValueError(
            f"expected a joint regressor [{NUM_ROTATIONS}, V], got {J_regressor.shape}"
        )
    if len(tips) != len(TIPS) or not all(0 <= tip < count for tip in tips):
        raise ValueError(
            f"expected {len(TIPS)} vertices between 0 and {count - 1} for the tips of thumb, "
            f"index, middle, ring and little finger, got {tuple(tips)}"
        )
    regressor = np.zeros((NUM_JOINTS, count), np.float32)
    regressor[list(MANO_TO_HAND)] = J_regressor
    regressor[list(TIPS), list(tips)] = 1.0
    return regressor


def _skinned(model: HandModel, pose: jax.Array, betas: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Vertices `[N, V, 3]` and turning joints `[N, 16, 3]`, metres."""
    count = pose.shape[0]
    mean = jnp.concatenate([jnp.zeros(3, pose.dtype), jnp.asarray(model.hands_mean)])
    rotations = rodrigues((pose + mean[None]).reshape(count, NUM_ROTATIONS, 3))
    shaped = jnp.asarray(model.v_template)[None] + _blend(model.shapedirs, betas)
    bends = (rotations[:, 1:] - jnp.eye(3, dtype=pose.dtype)[None, None]).reshape(count, -1)
    posed = shaped + _blend(model.posedirs, bends)

    rest = _regress(model.J_regressor, shaped)
    world, joints = _chain(rotations, rest)
    shift = joints - _turn(world, rest)
    weights = jnp.asarray(model.weights)
    turns = jnp.einsum("vj,njab->nvab", weights, world, precision=_HIGHEST)
    shifts = jnp.einsum("vj,nja->nva", weights, shift, precision=_HIGHEST)
    return _turn(turns, posed) + shifts, joints


def _chain(rotations: jax.Array, rest: jax.Array) -> tuple[jax.Array, jax.Array]:
    """World rotations `[N, 16, 3, 3]` and positions `[N, 16, 3]`, all fingers at once."""
    count = rest.shape[0]
    # After the wrist each finger is a chain of three joints, one after the other.
    turn, place = rotations[:, :1], rest[:, :1]
    finger_turns = rotations[:, 1:].reshape(count, -1, 3, 3, 3)
    finger_rest = rest[:, 1:].reshape(count, -1, 3, 3)
    turns, places, parent_rest = [], [], place
    for i in range(3):
        place = place + _turn(turn, finger_rest[:, :, i] - parent_rest)
        turn = _product(turn, finger_turns[:, :, i])
        parent_rest = finger_rest[:, :, i]
        turns.append(turn)
        places.append(place)
    fingers = jnp.stack(turns, 2).reshape(count, -1, 3, 3)
    finger_places = jnp.stack(places, 2).reshape(count, -1, 3)
    return (
        jnp.concatenate([rotations[:, :1], fingers], 1),
        jnp.concatenate([rest[:, :1], finger_places], 1),
    )


def _blend(directions: ArrayLike, amounts: jax.Array) -> jax.Array:
    """`[N, V, 3]` from `[V, 3, K]` and `[N, K]`."""
    directions = jnp.asarray(directions)
    flat = directions.reshape(-1, directions.shape[-1])
    return jnp.dot(amounts, flat.T, precision=_HIGHEST).reshape(-1, *directions.shape[:2])


def _regress(regressor: ArrayLike, vertices: jax.Array) -> jax.Array:
    return jnp.einsum("jv,nva->nja", jnp.asarray(regressor), vertices, precision=_HIGHEST)


def _turn(rotation: jax.Array, point: jax.Array) -> jax.Array:
    return jnp.sum(rotation * point[..., None, :], -1)


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.sum(a[..., :, :, None] * b[..., None, :, :], -2)
