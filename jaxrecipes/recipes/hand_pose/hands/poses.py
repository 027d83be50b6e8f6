"""Random poses, shapes, views and motions of the procedural hand, with their joints in numpy."""

from dataclasses import dataclass

import numpy as np
from scipy import special

from jaxrecipes.data.indexed_random import IndexedRandom
from jaxrecipes.models.hand.joints import NORM_JOINTS, SHAPE_SIZE
from jaxrecipes.models.hand.procedural import FINGERS, MANO_FINGERS, procedural_hand
from jaxrecipes.recipes.hand_pose.hands.quaternions import rotate, times, to_axis_angle, turn_about

FRAME_MS = 1000.0 / 30.0
FOCAL = 2.0156  # of the image's side
MAX_SHAPE = 2.0  # standard deviations
_CENTRE_JITTER = 0.02  # of the principal point, of the image's side
_DEPTH = (10.43, 2.25, 6.0, 15.0)  # mean, standard deviation, least and most, in hand scales
_ASIDE = 0.08  # of the wrist from the optical axis, of its depth
_CURL = (1.2, 1.6)  # parameters of a beta distribution
# Least and most, in degrees: first joint's flexion and abduction, then the other joints' flexion.
# A finger's own limits are multiplied by how far it curls.
_FINGER_LIMITS = ((-15.0, 85.0), (-12.0, 12.0), (57.0, 95.0), (32.5, 65.0))
_FINGER_OFFSET = -5.0  # degrees, of the first joint's flexion
_THUMB_LIMITS = ((-10.0, 35.0), (-15.0, 25.0), (-5.0, 45.0), (-10.0, 65.0))
_THUMB_TOWARDS = np.array([0.35, -0.6, -0.7])  # where flexion takes the thumb
# Fingers up and the palm towards the camera: x to y, y to z, z to x.
_FRONTAL = np.array([0.5, 0.5, 0.5, 0.5])
# Of a clip's second pose against its first, and of the motion there and back.
_MOTION_ANGLE = 40.0  # degrees
_MOTION_DEPTH, _MOTION_ASIDE = 0.08, 0.03  # of the depth
_MOTION_PERIOD = (500.0, 1200.0)  # ms


@dataclass(frozen=True)
class HandMotion:
    """Right hands over time, N clips of T frames; float64.

    Attributes:
      pose: `[N, T, 48]` axis-angle: the wrist in the camera's frame, 15 joints in MANO's order.
      betas: `[N, 10]`.
      joints: `[N, T, 21, 3]` mm in the camera's frame (x right, y down, z away).
      palms: `[N, T, 16, 3]` unit vectors out of the palm's side of the wrist, then of each finger's
        bones from thumb to pinky.
      focal, princpt: `[N, 2]` px.
      timestamp: `[N, T]` ms.
    """

    pose: np.ndarray
    betas: np.ndarray
    joints: np.ndarray
    palms: np.ndarray
    focal: np.ndarray
    princpt: np.ndarray
    timestamp: np.ndarray


def hand_motion(
    rng: IndexedRandom, *, num_frames: int, image_size: int, max_angle: float
) -> HandMotion:
    """Draws hands that swing between two poses; the first frame is the first pose.

    Args:
      rng: of the N clips; nothing else is random.
      num_frames: T.
      image_size: side of the square image in pixels.
      max_angle: degrees that a wrist turns at most from upright fingers and a palm that faces the
        camera, in the first frame, uniform among such rotations; 180 is any orientation.
    """
    time = FRAME_MS * np.arange(num_frames)
    period = uniform(rng, "period", *_MOTION_PERIOD)[:, None]
    share = 0.5 - 0.5 * np.cos(2 * np.pi * time / period)  # of the second pose

    first, second = _finger_angles(rng, "first"), _finger_angles(rng, "second")
    angles = first[:, None] + share[..., None, None] * (second - first)[:, None]
    aside = turn_about(_direction(rng, "motion"), share * np.deg2rad(_MOTION_ANGLE))
    wrist = times(aside, _orientation(rng, max_angle)[:, None])
    fingers = _finger_rotations(angles)
    betas = np.clip(
        np.stack([normal(rng, f"beta {k}") for k in range(SHAPE_SIZE)], axis=1),
        -MAX_SHAPE,
        MAX_SHAPE,
    )

    rest = _rest_joints(betas)
    relative, palms = _forward(rest, wrist, fingers)
    joints = relative + _wrist_place(rng, rest, share)[:, :, None]
    mano = np.concatenate([wrist[:, :, None], *(fingers[:, :, f] for f in MANO_FINGERS)], axis=2)
    jitter = [uniform(rng, f"princpt {k}", -_CENTRE_JITTER, _CENTRE_JITTER) for k in range(2)]
    return HandMotion(
        pose=to_axis_angle(mano).reshape(*share.shape, 48),
        betas=betas,
        joints=joints,
        palms=palms,
        focal=np.full((len(betas), 2), FOCAL * image_size),
        princpt=(0.5 + np.stack(jitter, axis=1)) * image_size,
        timestamp=np.broadcast_to(time, share.shape),
    )


def uniform(rng: IndexedRandom, name: str, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """`[N]` float64, uniform in [low, high)."""
    return low + (high - low) * rng.uniform(name)[:, 0, 0].astype(np.float64)


def normal(rng: IndexedRandom, name: str) -> np.ndarray:
    """`[N]` float64, normal with mean 0 and variance 1 (Box and Muller, 1958)."""
    length = np.sqrt(-2.0 * np.log1p(-uniform(rng, f"{name} length")))
    return length * np.cos(2 * np.pi * uniform(rng, f"{name} turn"))


def _direction(rng: IndexedRandom, name: str) -> np.ndarray:
    """`[N, 1, 3]` unit vectors, uniform over the sphere."""
    z, turn = uniform(rng, f"{name} z", -1.0, 1.0), uniform(rng, f"{name} turn", 0.0, 2 * np.pi)
    flat = np.sqrt(1.0 - z * z)
    return np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1)[:, None]


def _orientation(rng: IndexedRandom, max_angle: float) -> np.ndarray:
    """`[N, 4]`: uniform (Haar) among the rotations within `max_angle` degrees of `_FRONTAL`."""
    angle = np.linspace(0.0, np.deg2rad(max_angle), 4097)
    volume = angle - np.sin(angle)
    angle = np.interp(uniform(rng, "orientation") * volume[-1], volume, angle)
    return times(turn_about(_direction(rng, "orientation")[:, 0], angle), _FRONTAL)


def _finger_angles(rng: IndexedRandom, name: str) -> np.ndarray:
    """`[N, 5, 4]` radians within the limits of the joints."""
    angles = []
    for f in range(5):
        limits = _FINGER_LIMITS if f else _THUMB_LIMITS
        drawn = np.stack(
            [uniform(rng, f"{name} finger {f} {k}", *limit) for k, limit in enumerate(limits)], 1
        )
        if f:
            curl = special.betaincinv(*_CURL, uniform(rng, f"{name} finger {f} curl"))
            drawn[:, [0, 2, 3]] *= curl[:, None]
            drawn[:, 0] += _FINGER_OFFSET
        angles.append(drawn)
    return np.deg2rad(np.stack(angles, axis=1))


def _finger_rotations(angles: np.ndarray) -> np.ndarray:
    """`[N, T, 5, 3, 4]` quaternions of angles `[N, T, 5, 4]`: abduction after flexion."""
    up = np.array([0.0, 1.0, 0.0])
    axes = [np.cross(FINGERS[0].axis, _THUMB_TOWARDS)]
    axes += [np.cross(up, finger.axis) for finger in FINGERS[1:]]
    axis = np.stack([a / np.linalg.norm(a) for a in axes])[:, None]
    turns = turn_about(axis, angles[..., [0, 2, 3]])
    turns[..., 0, :] = times(turn_about(up, angles[..., 1]), turns[..., 0, :])
    return turns


def _rest_joints(betas: np.ndarray) -> np.ndarray:
    """`[N, 21, 3]` mm."""
    hand = procedural_hand()
    regressor = np.asarray(hand.joint_regressor, np.float64)
    mean = regressor @ np.asarray(hand.v_template, np.float64)
    steps = np.einsum("jv,vks->jks", regressor, np.asarray(hand.shapedirs, np.float64))
    return 1000.0 * (mean + np.einsum("jks,ns->njk", steps, betas))


def _wrist_place(rng: IndexedRandom, rest: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`[N, T, 3]` mm."""
    scale = np.linalg.norm(np.diff(rest[:, NORM_JOINTS], axis=1), axis=-1).sum(axis=1)
    mean, spread, least, most = _DEPTH
    depth = scale * np.clip(mean + spread * normal(rng, "depth"), least, most)
    z = depth[:, None] * (
        1.0 + uniform(rng, "depth step", -_MOTION_DEPTH, _MOTION_DEPTH)[:, None] * share
    )
    x, y = (
        uniform(rng, f"aside {k}", -_ASIDE, _ASIDE)[:, None]
        + uniform(rng, f"aside step {k}", -_MOTION_ASIDE, _MOTION_ASIDE)[:, None] * share
        for k in range(2)
    )
    return np.stack([x * z, y * z, z], axis=-1)


def _forward(
    rest: np.ndarray, wrist: np.ndarray, fingers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Joints `[N, T, 21, 3]` relative to the wrist, and palm directions `[N, T, 16, 3]`."""
    chains = rest[:, 1:].reshape(-1, 1, 5, 4, 3)  # base, two joints, tip
    turn = wrist[:, :, None]
    place = rotate(turn, chains[..., 0, :])
    points, turns = [place], [wrist[:, :, None]]
    for k in range(3):
        turn = times(turn, fingers[..., k, :])
        place = place + rotate(turn, chains[..., k + 1, :] - chains[..., k, :])
        points.append(place)
        turns.append(turn)
    shape = place.shape[:2]
    joints = np.stack(points, axis=3).reshape(*shape, 20, 3)
    bones = np.stack(turns[1:], axis=3).reshape(*shape, 15, 4)
    palms = rotate(np.concatenate([turns[0], bones], axis=2), np.array([0.0, -1.0, 0.0]))
    return np.concatenate([np.zeros((*shape, 1, 3)), joints], axis=2), palms
