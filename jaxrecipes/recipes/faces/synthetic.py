"""Synthetic face features with identities, poses and keypoints, for the face recipes.

An identity is a unit vector in a subspace of 12 dimensions. A side view rotates that vector within
the subspace, plane by plane, by angles that depend on yaw and nod; so the effect of a pose depends
on the person, by the same rule for everybody. It also adds noise, and a drift within that subspace
that depends only on yaw and nod. All features have unit length.
"""

import numpy as np

from jaxrecipes.recipes.faces.folder import FaceSide, FaceViews

MIN_DIM = 24
_ID_DIM = 12
_MAX_YAW = 60.0  # degrees; yaw is uniform between -60 and 60
_MAX_NOD = 30.0
_TILT_SPREAD, _NOD_SPREAD = 8.0, 12.0  # standard deviations in degrees
_TURNS = (0.4, 1.2)  # radians at 60 degrees of yaw, of the slowest and the fastest plane
_DRIFT = 1.4
_VIEW_NOISE, _FRONT_NOISE = 0.4, 0.1  # length of the noise vector
_FACE = np.array(  # eyes, nose, corners of the mouth; x right, y down, z forward
    [[-0.6, -0.5, -0.3], [0.6, -0.5, -0.3], [0.0, 0.05, 0.4], [-0.45, 0.6, -0.2], [0.45, 0.6, -0.2]]
)
_FACE_SPREAD = 0.04


def draw_faces(seed: int, *, num_people: int, views_per_person: int, feat_dim: int) -> FaceViews:
    """Draws people with one frontal photo and some side views each.

    Poses are degrees in the usual order: in-plane tilt (normal, 8), yaw (uniform, -60 to 60) and
    nod (normal, 12, cut at 30; 0 for a frontal face). Tilt changes the keypoints only.

    Difficulty with 300 people and 10 views in 64 dimensions, 180 people to learn from and 90 to
    judge by: the cosine between a side view and its frontal photo is 0.60; a linear map of the
    feature raises it to 0.78, one of feature and pose to 0.82, and one of their products to 0.96.

    Args:
      seed: 0 or more; another seed is another world, of which nothing carries over.
      num_people: 1 or more.
      views_per_person: side views, 1 or more.
      feat_dim: length of a feature, 24 or more.

    Raises:
      ValueError: too few dimensions.
    """
    if feat_dim < MIN_DIM:
        raise ValueError(
            f"made-up faces need features of {MIN_DIM} dimensions or more, not {feat_dim}"
        )
    rng = np.random.Generator(np.random.PCG64(seed))
    shape = num_people, views_per_person
    tilt = rng.normal(0.0, _TILT_SPREAD, shape)
    yaw = rng.uniform(-_MAX_YAW, _MAX_YAW, shape)
    nod = rng.normal(0.0, _NOD_SPREAD, shape).clip(-_MAX_NOD, _MAX_NOD)

    basis = np.linalg.qr(rng.normal(size=(feat_dim, feat_dim)))[0]
    id_basis = basis[:_ID_DIM]
    identity = _unit(rng.normal(size=(num_people, _ID_DIM)))
    turned = _turned(identity, yaw / _MAX_YAW, nod / _MAX_NOD, rng)
    drift = _pose_curve(yaw, nod) @ np.linalg.qr(rng.normal(size=(_ID_DIM, _ID_DIM)))[0][:8]
    seen = (turned + _DRIFT * drift) @ id_basis
    seen += rng.normal(0.0, _VIEW_NOISE / feat_dim**0.5, seen.shape)
    frontal = identity @ id_basis
    frontal += rng.normal(0.0, _FRONT_NOISE / feat_dim**0.5, frontal.shape)

    names = [f"person_{i:04d}" for i in range(num_people)]
    faces = _FACE + rng.normal(0.0, _FACE_SPREAD, (num_people, *_FACE.shape))
    poses = np.stack([tilt, yaw, nod], axis=-1)
    keypoints = np.einsum("pvij,pkj->pvki", _rotation(poses), faces)
    return FaceViews(
        front=_side(frontal, names, np.zeros((num_people, 3)), faces, "frontal photos"),
        video=_side(
            seen.reshape(-1, feat_dim),
            [name for name in names for _ in range(views_per_person)],
            poses.reshape(-1, 3),
            keypoints.reshape(-1, *_FACE.shape),
            "side views",
        ),
    )


def _turned(
    identity: np.ndarray, yaw: np.ndarray, nod: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """`[people, views, 12]`: pairs of entries turned by angles that follow yaw and nod."""
    planes = identity.shape[1] // 2
    signs = rng.choice([-1.0, 1.0], (2, planes))
    speed = signs * np.linspace(*_TURNS, planes)
    angle = speed[0] * yaw[..., None] + 0.5 * speed[1] * nod[..., None]
    x, y = identity[:, None, 0::2], identity[:, None, 1::2]
    turned = [np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y]
    return np.stack(turned, axis=-1).reshape(*yaw.shape, -1)


def _pose_curve(yaw: np.ndarray, nod: np.ndarray) -> np.ndarray:
    """`[people, views, 8]`: where a pose drifts to, whoever it is; 0 for a frontal face."""
    yaw, nod = np.deg2rad(yaw), np.deg2rad(nod)
    curve = [np.sin(yaw), 1.0 - np.cos(yaw), np.sin(2.0 * yaw) / 2.0, np.sin(yaw) ** 3]
    curve += [np.sin(nod), 1.0 - np.cos(nod)]
    curve += [np.sin(yaw) * np.sin(nod), np.cos(yaw) * np.sin(2.0 * nod) / 2.0]
    return np.stack(curve, axis=-1)


def _rotation(poses: np.ndarray) -> np.ndarray:
    """`[..., 3, 3]`: Rz(tilt) Ry(yaw) Rx(nod)."""
    (cz, cy, cx), (sz, sy, sx) = (
        np.moveaxis(f(np.deg2rad(poses)), -1, 0) for f in (np.cos, np.sin)
    )
    rows = [
        [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
        [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
        [-sy, cy * sx, cy * cx],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _side(
    features: np.ndarray, persons: list[str], poses: np.ndarray, points: np.ndarray, what: str
) -> FaceSide:
    centred = points - points.mean(axis=1, keepdims=True)
    return FaceSide(
        features=_unit(features).astype(np.float32),
        persons=persons,
        poses=poses.astype(np.float32),
        images=[f"embedded/{what}/{i:06d}" for i in range(len(persons))],
        keypoints=centred.astype(np.float32),
        features_from=f"embedded {what}",
        keypoints_from=f"embedded {what}",
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
