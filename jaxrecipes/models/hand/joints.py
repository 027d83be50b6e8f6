"""The joints of a hand: their order, how they are connected, and published statistics.

All arrays of 21 joints are in the order of `JOINT_NAMES`. MANO rotates 16 joints, in its own order:
`MANO_JOINTS`.
"""

FINGERS = ("Thumb", "Index", "Middle", "Ring", "Pinky")

JOINT_NAMES = ("Wrist", *(f"{finger}_{part}" for finger in FINGERS for part in (1, 2, 3, 4)))
"""21: the wrist, then each finger from its base to its tip (`_4`)."""

NUM_JOINTS = len(JOINT_NAMES)

CHAINS = {finger: tuple(range(4 * i + 1, 4 * i + 5)) for i, finger in enumerate(FINGERS)}
"""The four joints of each finger, base to tip."""

TIPS = tuple(chain[-1] for chain in CHAINS.values())

EDGES = tuple(edge for a, b, c, d in CHAINS.values() for edge in ((0, a), (a, b), (b, c), (c, d)))
"""The 20 bones as pairs (nearer to the wrist, further)."""

MANO_JOINTS = (
    "Wrist",
    *(f"{f}_{part}" for f in ("Index", "Middle", "Pinky", "Ring", "Thumb") for part in (1, 2, 3)),
)
"""The 16 joints that MANO rotates, in its order: little finger before ring finger, no tips."""

NUM_ROTATIONS = len(MANO_JOINTS)

MANO_PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)
"""The parent of each of `MANO_JOINTS`."""

MANO_TO_HAND = tuple(JOINT_NAMES.index(name) for name in MANO_JOINTS)
"""The index of each of `MANO_JOINTS` in `JOINT_NAMES`."""

POSE_SIZE = 3 * NUM_ROTATIONS
SHAPE_SIZE = 10

NORM_JOINTS = CHAINS["Middle"]
"""The length of the chain through these joints is a hand's scale."""

# Statistics of the published training set. x right, y down, z forward.
NORM_ROOT_MEAN = (-0.27450442, 0.0307872, 10.432839)
NORM_ROOT_STD = (1.4501408, 1.2677814, 2.2520287)
"""Mean and spread of the wrist's position in units of the hand's scale."""

ROOT_MEAN = (-24.414896, 2.2917128, 910.08026)
ROOT_STD = (118.75197, 102.83254, 219.12888)
"""Of the wrist's position, mm."""
