"""Fits pose, shape and position of a hand model to 21 joints, for data that has only joints.

Levenberg-Marquardt on every hand alone, batched: squared distances of the joints, plus what makes
the answer one that a hand can take where joints leave it open (a turn about a bone does not move
the joints after it, and some joints may not be known).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxrecipes.models.hand.alignment import similarity
from jaxrecipes.models.hand.joints import (
    CHAINS,
    MANO_JOINTS,
    MANO_TO_HAND,
    NUM_JOINTS,
    POSE_SIZE,
    SHAPE_SIZE,
)
from jaxrecipes.models.hand.model import HandModel, hand_geometry
from jaxrecipes.models.hand.rotations import matrix_to_axis_angle, rodrigues

_HIGHEST = jax.lax.Precision.HIGHEST
_FINGER_LIMITS = (
    ((-20, 20), (-35, 100), (-30, 30)),
    ((-10, 10), (-10, 120), (-10, 10)),
    ((-10, 10), (-25, 100), (-10, 10)),
)
_THUMB_LIMITS = (((-45, 45), (-60, 60), (-60, 60)),) * 2 + (((-20, 20), (-40, 100), (-60, 60)),)
"""Limits in degrees from the flat hand, for each joint of a finger: about the bone, to the palm,
sideways.
"""


_CAUTION = 30.0
"""By how much joints are treated as less accurate at first, so that fingers bend in possible
directions.
"""


class HandFit(NamedTuple):
    """Fitted hands.

    Attributes:
      pose: `[N, 48]` radians, as `hand_geometry` takes it.
      betas: `[N, 10]`.
      root: `[N, 3]` mm, the wrist.
      error: `[N]` mm, the mean distance of the valid joints; infinite if there are none.
    """

    pose: Array
    betas: Array
    root: Array
    error: Array


@partial(jax.jit, static_argnames=("num_steps", "batch_size"))
def fit_hands(
    model: HandModel,
    joints: ArrayLike,
    valid: ArrayLike,
    *,
    num_steps: int = 15,
    batch_size: int = 64,
    joint_std: ArrayLike = 1.0,
    pose_std: ArrayLike = 1.0,
    shape_std: ArrayLike = 1.0,
    limit_std: ArrayLike = 0.1,
) -> HandFit:
    """The hands whose joints are closest to the given ones.

    Args:
      model: the right hand to fit; mirror the joints of left ones.
      joints: `[N, 21, 3]` mm in the order of `joints.JOINT_NAMES`.
      valid: `[N, 21]`, 1 = the joint is known.
      num_steps: of Levenberg-Marquardt.
      batch_size: number of hands fitted at once.
      joint_std: mm, standard deviation of the joints; the larger, the closer the hand stays to the
        mean.
      pose_std: radians, standard deviation of the joints' rotations from the mean hand.
      shape_std: standard deviation of the shape parameters.
      limit_std: radians, tolerance beyond a joint's limits.

    Returns:
      `HandFit`.

    Raises:
      ValueError: joints or valid have another shape.
    """
    joints, valid = jnp.asarray(joints, jnp.float32), jnp.asarray(valid, jnp.float32)
    if joints.ndim != 3 or joints.shape[1:] != (NUM_JOINTS, 3) or valid.shape != joints.shape[:2]:
        raise ValueError(
            f"expected joints [N, {NUM_JOINTS}, 3] and valid [N, {NUM_JOINTS}], "
            f"got {joints.shape} and {valid.shape}"
        )
    rest = _joints(model, *(jnp.zeros(n, jnp.float32) for n in (POSE_SIZE, SHAPE_SIZE)))
    axes, (least, most) = _joint_axes(model), _limits()
    mean = jnp.asarray(model.hands_mean)

    def fit(hand: tuple[Array, Array]) -> HandFit:
        target, known = jnp.where(hand[1][:, None] > 0, hand[0], 0.0), hand[1] > 0

        def offsets(pose: Array, betas: Array, root: Array) -> Array:
            return jnp.where(known[:, None], _joints(model, pose, betas) + root[None] - target, 0.0)

        def residuals(numbers: Array, caution: Array) -> Array:
            pose, betas, root = _split(numbers)
            turns = jnp.einsum("jab,jb->ja", axes, (pose[3:] + mean).reshape(-1, 3))
            beyond = jax.nn.relu(least - turns) + jax.nn.relu(turns - most)
            parts = (
                offsets(pose, betas, root) / (joint_std * caution),
                pose[3:] / pose_std,
                betas / shape_std,
                beyond / limit_std,
            )
            return jnp.concatenate([part.ravel() for part in parts])

        start = _start(rest, target, known)
        pose, betas, root = _split(_least_squares(residuals, start, num_steps))
        turn = matrix_to_axis_angle(rodrigues(pose[:3]))  # by at most half a turn
        distances = jnp.linalg.norm(offsets(pose, betas, root), axis=-1)
        count = known.sum(dtype=jnp.float32)
        error = jnp.where(known.any(), distances.sum() / jnp.maximum(count, 1.0), jnp.inf)
        return HandFit(jnp.concatenate([turn, pose[3:]]), betas, root, error)

    return jax.lax.map(fit, (joints, valid), batch_size=batch_size)


def _joints(model: HandModel, pose: Array, betas: Array) -> Array:
    """`[21, 3]` mm from the wrist, with the gradient of the wrist."""
    vertices = hand_geometry(model, pose, betas).vertices
    joints = 1000.0 * jnp.matmul(jnp.asarray(model.joint_regressor), vertices, precision=_HIGHEST)
    return joints - joints[:1]


def _split(numbers: Array) -> tuple[Array, Array, Array]:
    """Pose, shape and wrist."""
    pose, betas, root = jnp.split(numbers, [POSE_SIZE, POSE_SIZE + SHAPE_SIZE])
    return pose, betas, root


def _start(rest: Array, target: Array, known: Array) -> Array:
    """The mean hand, aligned with the joints, and above all with the palm, which does not bend."""
    palm = np.full(NUM_JOINTS, 0.05, np.float32)
    palm[[0, *(chain[0] for chain in CHAINS.values())]] = 1.0
    placed = similarity(rest, target, mask=palm * known.astype(jnp.float32))
    turn = matrix_to_axis_angle(placed.rotation)
    straight = jnp.zeros(POSE_SIZE - 3 + SHAPE_SIZE, jnp.float32)
    return jnp.concatenate([turn, straight, placed(rest)[0]])


def _least_squares(
    residuals: Callable[[Array, Array], Array], start: Array, num_steps: int
) -> Array:
    """Levenberg-Marquardt: a step that does not help is undone, and the next one is shorter.

    `residuals` is called with numbers and with how cautiously to follow the joints, from
    `_CAUTION` at first to 1 in the second half of the steps.
    """

    def step(state: tuple[Array, Array], caution: Array) -> tuple[tuple[Array, Array], None]:
        numbers, damping = state
        values = residuals(numbers, caution)
        slopes = jax.jacfwd(residuals)(numbers, caution)
        curvature = jnp.matmul(slopes.T, slopes, precision=_HIGHEST)
        descent = jnp.matmul(slopes.T, values, precision=_HIGHEST)
        damped = curvature + jnp.diag(damping * jnp.diag(curvature) + 1e-6)
        moved = numbers - jnp.linalg.solve(damped, descent)
        better = jnp.sum(residuals(moved, caution) ** 2) < jnp.sum(values**2)
        damping = jnp.clip(damping * jnp.where(better, 0.2, jnp.float32(5.0)), 1e-6, 1e6)
        return (jnp.where(better, moved, numbers), damping), None

    share = jnp.arange(num_steps, dtype=jnp.float32) / num_steps
    caution = _CAUTION ** jnp.clip(1.0 - 2.0 * share, 0.0)
    (numbers, _), _ = jax.lax.scan(step, (start, jnp.float32(0.01)), caution)
    return numbers


def _joint_axes(model: HandModel) -> Array:
    """`[15, 3, 3]` for each joint that bends, unit vectors as rows: along its bone, the axis of a
    turn towards the palm, that of a turn sideways.
    """
    at = jnp.asarray(model.joint_regressor) @ jnp.asarray(model.v_template)
    knuckles = at[np.array([chain[0] for chain in CHAINS.values()][1:])]
    back = jnp.cross(knuckles.mean(0) - at[0], knuckles[0] - knuckles[-1])
    bends = np.array(MANO_TO_HAND[1:])
    bone = _unit(at[bends + 1] - at[bends])
    flexion = _unit(jnp.cross(back, bone))
    return jnp.stack([bone, flexion, jnp.cross(bone, flexion)], 1)


def _unit(vectors: Array) -> Array:
    return vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _limits() -> tuple[np.ndarray, np.ndarray]:
    """`[15, 3]` lower and upper limits, radians, about the axes of `_joint_axes`."""
    limits = [
        (_THUMB_LIMITS if name.startswith("Thumb") else _FINGER_LIMITS)[int(name[-1]) - 1]
        for name in MANO_JOINTS[1:]
    ]
    radians = np.deg2rad(np.array(limits, np.float32))
    return radians[..., 0], radians[..., 1]
