"""Rotation conversions: the original's values, round trips, finite gradients."""

import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.models.hand import rotations

VECTORS = hypothesis.extra.numpy.arrays(
    np.float32, (4, 3), elements=st.floats(-1.75, 1.75, width=32)
)  # by less than half a turn, where axis-angle is unique
EXAMPLES = hypothesis.settings(deadline=None, max_examples=25, derandomize=True)


def assert_near(got, want, atol=2e-6):
    np.testing.assert_allclose(got, want, rtol=0, atol=atol)


@pytest.fixture(scope="module")
def arrays(golden):
    return golden("hand_pose/rotations")


@pytest.mark.parametrize(
    ("function", "source", "target"),
    [
        ("axis_angle_to_matrix", "in/axis_angle", "out/matrix_kornia"),
        ("rodrigues", "in/axis_angle", "out/matrix_rodrigues_smplx"),
        ("matrix_to_axis_angle", "out/matrix_kornia", "out/axis_angle_back"),
        ("matrix_to_quaternion", "out/matrix_kornia", "out/quat_from_matrix"),
        ("axis_angle_to_quaternion", "in/axis_angle", "out/quat_from_axis_angle"),
        ("quaternion_to_axis_angle", "out/quat_from_axis_angle", "out/axis_angle_from_quat"),
        ("quaternion_to_axis_angle", "in/quat", "out/axis_angle_from_raw_quat"),
        ("quaternion_to_matrix", "in/quat", "out/matrix_from_quat"),
        ("matrix_to_sixd", "out/matrix_kornia", "out/sixd_from_matrix"),
        ("sixd_to_matrix", "in/sixd", "out/matrix_from_sixd"),
    ],
)
def test_conversions_equal_the_original(arrays, function, source, target):
    assert_near(jax.jit(getattr(rotations, function))(arrays[source]), arrays[target])


@pytest.mark.parametrize(
    ("function", "source", "cotangent", "gradient"),
    [
        ("sixd_to_matrix", "in/sixd", "in/cot_matrix", "grad/sixd"),
        ("rodrigues", "in/axis_angle", "in/cot_rodrigues", "grad/rodrigues_axis_angle"),
    ],
)
def test_gradients_equal_the_original(arrays, function, source, cotangent, gradient):
    def objective(x):
        return jnp.sum(getattr(rotations, function)(x) * arrays[cotangent])

    assert_near(jax.jit(jax.grad(objective))(arrays[source]), arrays[gradient], atol=2e-5)


@jax.jit
def round_trips(vectors):
    """The vectors again, through a quaternion, one of another length and sign, and a matrix."""
    quaternion = rotations.axis_angle_to_quaternion(vectors)
    return (
        rotations.quaternion_to_axis_angle(quaternion),
        rotations.quaternion_to_axis_angle(-3.0 * quaternion),
        rotations.matrix_to_axis_angle(rotations.axis_angle_to_matrix(vectors)),
    )


@hypothesis.given(VECTORS)
@EXAMPLES
def test_axis_angles_come_back_from_every_other_form(vectors):
    for back, atol in zip(round_trips(vectors), (1e-5, 1e-5, 2e-4), strict=True):
        assert_near(back, vectors, atol=atol)


@jax.jit
def matrices_of(vectors, sixd):
    quaternions = jnp.concatenate([jnp.ones((4, 1)), vectors], 1)
    return (
        rotations.axis_angle_to_matrix(vectors),
        rotations.rodrigues(vectors),
        rotations.quaternion_to_matrix(quaternions),
        rotations.sixd_to_matrix(sixd),
    )


@hypothesis.given(VECTORS)
@EXAMPLES
def test_every_matrix_is_a_rotation(vectors):
    sixd = np.concatenate([vectors, 1 + vectors[:, ::-1]], -1)
    hypothesis.assume(np.linalg.norm(np.cross(sixd[:, :3], sixd[:, 3:]), axis=-1).min() > 0.1)
    for matrix in map(np.asarray, matrices_of(vectors, sixd)):
        assert_near(matrix @ matrix.swapaxes(-1, -2), np.tile(np.eye(3), (4, 1, 1)), atol=1e-5)
        assert_near(np.linalg.det(matrix), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        ("axis_angle_to_matrix", (3,)),
        ("rodrigues", (3,)),
        ("axis_angle_to_quaternion", (3,)),
        ("quaternion_to_axis_angle", (4,)),
        ("quaternion_to_matrix", (4,)),
        ("sixd_to_matrix", (6,)),
    ],
)
def test_gradients_at_zeros_are_finite(function, shape):
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(getattr(rotations, function)(x))))
    assert np.isfinite(gradient(np.zeros(shape, np.float32))).all()


def test_half_turns_keep_their_gradients_finite():
    half_turns = np.stack([np.diag(np.roll([1.0, -1, -1], i)) for i in range(3)])
    matrices = np.concatenate([half_turns, np.eye(3)[None]]).astype(np.float32)

    @jax.jit
    @jax.value_and_grad
    def total_angle(m):
        return jnp.sum(jnp.abs(rotations.matrix_to_axis_angle(m)))

    total, gradient = total_angle(matrices)
    assert np.isfinite(gradient).all()
    assert_near(total, 3 * np.pi, atol=1e-4)


@pytest.mark.parametrize("joint_type", ["3", "6d", "quat"])
def test_a_pose_comes_back_from_each_joint_type(joint_type):
    pose = np.random.default_rng(0).normal(0, 0.5, (2, 48)).astype(np.float32)
    stored = jax.jit(lambda p: rotations.from_axis_angle(p, joint_type))(pose)
    assert stored.shape == (2, 16 * rotations.rotation_width(joint_type))
    back = jax.jit(lambda p: rotations.to_axis_angle(p, joint_type))(stored)
    assert_near(back, pose, atol=1e-5)


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="unknown joint type '6D'; did you mean '6d'"):
        rotations.to_axis_angle(np.zeros(96), "6D")
    with pytest.raises(ValueError, match=r"expected a pose \[..., J \* 6\], got shape \(2, 47\)"):
        rotations.to_axis_angle(np.zeros((2, 47)), "6d")
    with pytest.raises(ValueError, match=r"expected matrices \[..., 3, 3\], got shape \(3,\)"):
        rotations.matrix_to_sixd(np.zeros(3))
