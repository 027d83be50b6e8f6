"""The procedural hand: what its numbers promise about joints, sizes and surface."""

import jax
import numpy as np
import pytest

from jaxrecipes.models.hand.joints import EDGES, MANO_PARENTS, MANO_TO_HAND, NORM_JOINTS
from jaxrecipes.models.hand.model import hand_geometry
from jaxrecipes.models.hand.procedural import procedural_hand, thickness


@pytest.fixture(scope="module")
def model():
    return procedural_hand()


@pytest.fixture(scope="module")
def posed(model):
    """Four hands, the first of them at rest; the last two have equal shapes."""
    rng = np.random.default_rng(0)
    pose, betas = rng.normal(0, 0.7, (4, 48)), rng.normal(0, 1, (4, 10))
    pose[0], betas[0], betas[3] = 0, 0, betas[2]
    return jax.jit(hand_geometry)(model, pose, betas)


def _bones(joints):
    a, b = np.array(EDGES).T
    return np.linalg.norm(joints[..., a, :] - joints[..., b, :], axis=-1)


def test_joints_of_the_posed_mesh_are_those_of_the_kinematic_chain(posed):
    chain = 1000 * (posed.joints16 - posed.joints16[:, :1])
    np.testing.assert_allclose(posed.joint_rel[:, MANO_TO_HAND], chain, atol=1e-3)


def test_no_pose_changes_the_length_of_a_bone(posed):
    bones = _bones(np.asarray(posed.joint_rel))
    np.testing.assert_allclose(bones[2], bones[3], atol=1e-3)
    assert np.abs(bones[0] - bones[2]).max() > 1  # but shapes do


def test_the_mean_hand_has_published_proportions(posed):
    rest = np.asarray(posed.joint_rel[0])
    middle = np.linalg.norm(np.diff(rest[list(NORM_JOINTS)], axis=0), axis=-1).sum()
    assert middle == pytest.approx(87.0, abs=1e-3)
    assert np.linalg.norm(rest[NORM_JOINTS[-1]]) == pytest.approx(177, abs=0.1)
    assert (rest[[8, 12, 16, 20], 0] < -120).all()  # fingers along -x
    assert rest[4, 2] > 60  # the thumb at +z


def test_thickness_is_what_shapes_do_to_the_rings(model):
    betas = np.array([1.5, -1, 0.5, 1, 1, 1, 1, 1, -2, 1])
    for betas_of, scale in ((np.zeros(10), 1.0), (betas, thickness(betas))):
        vertices = model.v_template + model.shapedirs @ betas_of
        ring = 1000 * (vertices - model.J_regressor.T @ (model.J_regressor @ vertices) * 8)[8:16]
        np.testing.assert_allclose(np.linalg.norm(ring, axis=-1), 9.5 * scale, atol=1e-3)


def test_triangles_face_outwards(model):
    corners = model.v_template[model.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    middles = corners.mean(axis=1)
    joints = model.J_regressor @ model.v_template
    tubes = np.split(np.arange(6, 6 + 15 * 16), 15)
    for tube, joint in zip(tubes, range(1, 16), strict=True):
        start = joints[MANO_PARENTS[joint]]
        bone = (joints[joint] - start) / np.linalg.norm(joints[joint] - start)
        away = middles[tube] - start
        away -= (away @ bone)[:, None] * bone
        assert (np.sum(normals[tube] * away, axis=-1) > 0).all()
    caps = np.split(np.arange(6 + 15 * 16, len(normals)), 5)
    for cap, joint in zip(caps, range(3, 16, 3), strict=True):
        assert (np.sum(normals[cap] * (middles[cap] - joints[joint]), axis=-1) > 0).all()
    assert (normals[:6, 0] > 0).all()  # the wrist's, away from the fingers
