"""A hand made of capsules and rings: a hand model without a licence.

It has the fields of a MANO file and uses the same forward kinematics and skinning. At rest it is a
flat right hand with its wrist at the origin, the fingers along -x, the thumb at +z and the palm
facing -y. Proportions are those of an adult hand: the middle finger's chain is 87 mm, as in the
published mean of hand scales, and 177 mm lie between the wrist and that finger's tip.

A joint has a ring of 8 vertices whose mean it is, skinned half to the joint and half to its parent;
a fingertip is one vertex. So the joints regressed from the posed vertices are always those of the
kinematic chain, for any pose and shape.
"""

from dataclasses import dataclass

import numpy as np

from jaxrecipes.models.hand.joints import MANO_PARENTS, MANO_TO_HAND, NUM_ROTATIONS, SHAPE_SIZE
from jaxrecipes.models.hand.model import HandModel, joint_regressor

_RING = 8  # vertices around a joint
_SIZE_STEP, _RADII_STEP = 0.06, 0.08
_WRIST_RADII = (14.0, 20.0)  # mm along y and z
_TIPS = tuple(_RING * NUM_ROTATIONS + f for f in range(5))  # vertices, thumb to pinky


@dataclass(frozen=True)
class Finger:
    """A finger at rest, in mm.

    Attributes:
      base: position of its first joint.
      direction: from the first joint to the tip; any length.
      lengths: of its three bones.
      radii: at its three joints and its tip.
    """

    base: tuple[float, float, float]
    direction: tuple[float, float, float]
    lengths: tuple[float, float, float]
    radii: tuple[float, float, float, float]

    @property
    def axis(self) -> np.ndarray:
        """`[3]` the direction, of length 1."""
        return np.array(self.direction) / np.linalg.norm(self.direction)

    @property
    def points(self) -> np.ndarray:
        """`[4, 3]` joints and tip."""
        along = np.concatenate([[0.0], np.cumsum(self.lengths)])
        return np.array(self.base) + along[:, None] * self.axis


FINGERS = (  # thumb, index, middle, ring, pinky
    Finger((-26, -12, 27), (-0.72, -0.35, 0.60), (38, 31, 25), (12, 10, 9, 6.5)),
    Finger((-88, 0, 24), (-0.995, 0, 0.10), (40.5, 23.5, 18), (9.5, 8, 7, 5.5)),
    Finger((-90, 3, 3), (-1, 0, 0), (44, 25.5, 17.5), (9.5, 8.2, 7.2, 5.6)),
    Finger((-84, 2, -17), (-0.994, 0, -0.11), (41, 24.5, 18), (9, 7.8, 6.8, 5.3)),
    Finger((-75, -2, -35), (-0.975, 0, -0.22), (32.5, 18.5, 16.5), (8, 6.8, 6, 4.8)),
)
MANO_FINGERS = tuple((joint - 1) // 4 for joint in MANO_TO_HAND[1::3])
"""The fingers (0 thumb to 4 pinky) in the order of MANO's rotations."""


def procedural_hand() -> HandModel:
    """The hand of `FINGERS` as a `HandModel` of 133 vertices, in metres, float32.

    Its mean pose is the rest pose and it has no pose blend shapes. One step (about a standard
    deviation) of its ten shape parameters changes: 0 the whole hand by 6 %; 1 the length of all
    fingers by 5 %; 2 the width of the palm by 6 %; 3 to 7 the length of the thumb, index, middle,
    ring and pinky by 4 %; 8 the radii by 8 %; 9 the base of the thumb by 3 mm towards +z.
    """
    centres, offsets = _rings()
    shapes = _shapes(centres, offsets)
    weights = np.zeros((len(centres), NUM_ROTATIONS))
    regressor = np.zeros((NUM_ROTATIONS, len(centres)))
    for joint, parent in enumerate(MANO_PARENTS):
        ring = slice(_RING * joint, _RING * (joint + 1))
        weights[ring, joint] += 0.5
        weights[ring, max(parent, 0)] += 0.5
        regressor[joint, ring] = 1.0 / _RING
    for place, finger in enumerate(MANO_FINGERS):
        weights[_TIPS[finger], 3 * place + 3] = 1.0
    return HandModel(
        v_template=((centres + offsets) / 1000).astype(np.float32),
        shapedirs=(shapes / 1000).astype(np.float32),
        posedirs=np.zeros((len(centres), 3, 135), np.float32),
        J_regressor=regressor.astype(np.float32),
        weights=weights.astype(np.float32),
        hands_mean=np.zeros(45, np.float32),
        joint_regressor=joint_regressor(regressor, _TIPS),
        faces=_faces(),
    )


def thickness(betas: np.ndarray) -> np.ndarray:
    """The factors of the radii of hands with shape `betas` `[..., 10]`, `[...]`."""
    return 1.0 + _SIZE_STEP * betas[..., 0] + _RADII_STEP * betas[..., 8]


def _rings() -> tuple[np.ndarray, np.ndarray]:
    """`[V, 3]` mm: the joint that a vertex belongs to, and its position relative to that joint."""
    turn = 2 * np.pi * np.arange(_RING) / _RING
    up, side = np.array([0.0, 1, 0]), np.array([0.0, 0, 1])
    centres = [np.zeros((_RING, 3))]
    high, wide = _WRIST_RADII
    offsets = [high * np.cos(turn)[:, None] * up - wide * np.sin(turn)[:, None] * side]
    for f in MANO_FINGERS:
        finger = FINGERS[f]
        first = up - (up @ finger.axis) * finger.axis
        first /= np.linalg.norm(first)
        circle = np.cos(turn)[:, None] * first + np.sin(turn)[:, None] * np.cross(
            finger.axis, first
        )
        for point, radius in zip(finger.points[:3], finger.radii[:3], strict=True):
            centres.append(np.tile(point, (_RING, 1)))
            offsets.append(radius * circle)
    tips = np.stack([finger.points[3] for finger in FINGERS])
    return np.concatenate([*centres, tips]), np.concatenate([*offsets, np.zeros_like(tips)])


def _vertex_fingers() -> np.ndarray:
    """`[V]` the finger of a vertex, -1 at the wrist."""
    return np.concatenate([[-1] * _RING, np.repeat(MANO_FINGERS, 3 * _RING), np.arange(5)])


def _shapes(centres: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """`[V, 3, 10]` mm for a step of each shape parameter."""
    finger = _vertex_fingers()
    bases = np.array([f.base for f in FINGERS] + [(0, 0, 0)])[finger]  # the wrist's is the last
    past_base = np.where(finger[:, None] >= 0, centres - bases, 0.0)
    shapes = np.zeros((*centres.shape, SHAPE_SIZE))
    shapes[..., 0] = _SIZE_STEP * (centres + offsets)
    shapes[..., 1] = 0.05 * past_base
    shapes[:, 2, 2] = 0.06 * np.where(finger >= 0, bases[:, 2], offsets[:, 2])
    for f in range(5):
        shapes[..., 3 + f] = 0.04 * past_base * (finger == f)[:, None]
    shapes[..., 8] = _RADII_STEP * offsets
    shapes[:, 2, 9] = 3.0 * (finger == 0)
    return shapes


def _faces() -> np.ndarray:
    """`[F, 3]` int32: a tube along every bone, closed at the tips and the wrist."""
    here = np.arange(_RING)
    there = np.roll(here, -1)
    faces = [np.stack([np.zeros(_RING - 2, int), there[1:-1], here[1:-1]], axis=1)]
    for joint in range(1, NUM_ROTATIONS):
        start, end = _RING * MANO_PARENTS[joint], _RING * joint
        faces.append(np.stack([start + here, start + there, end + here], axis=1))
        faces.append(np.stack([start + there, end + there, end + here], axis=1))
    for place, finger in enumerate(MANO_FINGERS):
        last = _RING * (3 * place + 3)
        faces.append(np.stack([last + here, last + there, np.full(_RING, _TIPS[finger])], axis=1))
    return np.concatenate(faces).astype(np.int32)
