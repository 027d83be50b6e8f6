"""The hand model against MANO's layer, its joints' orders, and fitting it to joints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.models.hand import joints as hand_joints
from jaxrecipes.models.hand.fit import fit_hands
from jaxrecipes.models.hand.model import HandModel, hand_geometry, joint_regressor

geometry = jax.jit(hand_geometry)


def relative_error(got, want):
    return np.abs(np.asarray(got) - want).max() / np.abs(want).max()


@pytest.fixture(scope="module")
def arrays(golden):
    return golden("hand_pose/mano_lbs")


@pytest.fixture(scope="module")
def model(arrays):
    names = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "hands_mean")
    return HandModel(
        **{name: arrays[f"mano/{name}"] for name in names},
        joint_regressor=arrays["mano/joint_regressor_21"],
        faces=arrays["mano/f"].astype(np.int32),
    )


def test_the_posed_hand_equals_the_original(arrays, model):
    posed = geometry(model, arrays["in/pose"], arrays["in/shape"])
    assert relative_error(posed.joint_rel, arrays["out/joint_rel_mm"]) < 2e-6
    assert relative_error(posed.verts_rel, arrays["out/verts_rel_mm"]) < 2e-6
    flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), posed)
    assert relative_error(flat.vertices, arrays["out/vertices_m"]) < 2e-6
    assert relative_error(flat.joints16, arrays["out/joints16_m"]) < 2e-6


def test_its_gradients_equal_the_original(arrays, model):
    def objective(pose, betas):
        posed = hand_geometry(model, pose, betas)
        joints, vertices = arrays["in/cot_joint"], arrays["in/cot_verts"]
        return jnp.sum(posed.joint_rel * joints) + jnp.sum(posed.verts_rel * vertices)

    pose, betas = jax.jit(jax.grad(objective, (0, 1)))(arrays["in/pose"], arrays["in/shape"])
    assert relative_error(pose, arrays["grad/pose"]) < 5e-6
    assert relative_error(betas, arrays["grad/shape"]) < 5e-6


def test_the_regressor_of_21_joints_is_that_of_16_and_the_tips(arrays):
    wanted = arrays["mano/joint_regressor_21"]
    tips = [int(wanted[joint].argmax()) for joint in hand_joints.TIPS]
    np.testing.assert_array_equal(joint_regressor(arrays["mano/J_regressor"], tips), wanted)


def test_the_orders_of_joints():
    names, mano = hand_joints.JOINT_NAMES, hand_joints.MANO_JOINTS
    assert (len(names), len(mano), len(hand_joints.EDGES)) == (21, 16, 20)
    assert names[9:13] == ("Middle_1", "Middle_2", "Middle_3", "Middle_4")
    assert mano[7:13] == ("Pinky_1", "Pinky_2", "Pinky_3", "Ring_1", "Ring_2", "Ring_3")
    assert [names[joint] for joint in hand_joints.MANO_TO_HAND] == list(mano)
    for joint, parent in list(enumerate(hand_joints.MANO_PARENTS))[1:]:
        edge = hand_joints.MANO_TO_HAND[parent], hand_joints.MANO_TO_HAND[joint]
        assert edge in hand_joints.EDGES


def test_wrong_sizes_are_refused(model):
    with pytest.raises(ValueError, match=r"got \(2, 45\) and \(2, 10\)"):
        hand_geometry(model, np.zeros((2, 45)), np.zeros((2, 10)))
    with pytest.raises(
        ValueError, match=r"expected 5 vertices between 0 and 29 .* got \(1, 2, 3\)"
    ):
        joint_regressor(np.zeros((16, 30)), (1, 2, 3))
    with pytest.raises(ValueError, match=r"got \(3, 21, 2\) and \(3, 21\)"):
        fit_hands(model, np.zeros((3, 21, 2)), np.zeros((3, 21)))


@pytest.fixture(scope="module")
def fitted(model):
    """Joints of five hands, and the fit; of the fourth three are not known, of the last none."""
    rng = np.random.default_rng(0)
    pose = np.concatenate([rng.normal(0, 1.5, (5, 3)), rng.normal(0, 0.25, (5, 45))], 1)
    posed = geometry(model, pose, rng.normal(0, 0.7, (5, 10)))
    joints = np.asarray(posed.joint_rel) + np.array([10.0, -30, 700])
    valid = np.ones((5, 21))
    valid[3, [3, 8, 20]], valid[4] = 0.0, 0.0
    seen = np.where(valid[..., None] > 0, joints, np.nan)
    return joints, fit_hands(model, seen, valid, num_steps=12, batch_size=5)


def test_a_fit_recovers_the_joints_of_known_poses(model, fitted):
    joints, fit = fitted
    posed = geometry(model, fit.pose, fit.betas)
    distances = np.linalg.norm(posed.joint_rel + fit.root[:, None] - joints, axis=-1).mean(-1)
    assert distances[:3].max() < 2.0
    np.testing.assert_allclose(fit.error[:3], distances[:3], atol=1e-3)


def test_a_fit_uses_the_known_joints_alone(fitted):
    _, fit = fitted
    assert fit.error[3] < 2.0
    assert fit.error[4] == np.inf
    assert all(np.isfinite(array).all() for array in fit[:3])
