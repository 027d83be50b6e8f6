from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.recipes.hand_pose.joint_errors import hand_errors, more_hand_errors


def hands(key, clips=4, frames=2, vertices=5):
    """Predictions, targets and a batch of random hands, all labelled."""
    keys = jax.random.split(key, 4)

    def points(key, count, depth=0.0):
        return 30.0 * jax.random.normal(key, (clips, frames, count, 3)) + depth

    joint_cam, pred_cam = points(keys[0], 21, 500.0), points(keys[1], 21, 500.0)
    verts_cam, pred_verts = points(keys[2], vertices, 500.0), points(keys[3], vertices, 500.0)

    def arrays(joints, verts):
        root = joints[..., :1, :]
        return {
            "joint_cam": joints,
            "joint_rel": joints - root,
            "verts_cam": verts,
            "verts_rel": verts - root,
        }

    batch = {
        "joint_cam": joint_cam,
        "joint_valid": jnp.ones((clips, frames, 21)),
        "mano_valid": jnp.ones((clips, frames)),
    }
    return arrays(pred_cam, pred_verts), arrays(joint_cam, verts_cam), batch


def sliced(trees, rows):
    return [{name: x[rows] for name, x in tree.items()} for tree in trees]


@pytest.fixture(scope="module")
def case():
    predictions, targets, batch = hands(jax.random.key(0))
    batch["joint_valid"] = batch["joint_valid"].at[1, 0, 3].set(0.0).at[2, 1, 10].set(0.0)
    batch["mano_valid"] = batch["mano_valid"].at[0, 0].set(0.0)
    return predictions, targets, batch


@pytest.fixture(scope="module")
def errors():
    def run(*trees):
        return hand_errors(*trees) | more_hand_errors(*trees)

    return jax.jit(run)


@pytest.fixture(scope="module")
def expected(case, errors):
    return errors(*case)


def test_batches_and_padding_change_nothing(case, errors, expected):
    mask = {"mask": jnp.array([1.0, 1.0, 0.0])}
    first, second = sliced(case, slice(0, 2)), sliced(case, slice(2, 4))

    def padded(trees):
        filled = [
            {name: jnp.concatenate([x, jnp.full_like(x[:1], jnp.nan)]) for name, x in tree.items()}
            for tree in trees
        ]
        filled[2] |= mask
        return filled

    parts = [errors(*padded(part)) for part in (first, second)]
    for name, error in expected.items():
        whole = (parts[0][name] + parts[1][name]).compute()
        np.testing.assert_allclose(whole, error.compute(), rtol=2e-6, err_msg=name)


def test_what_counts_are_known_joints_of_frames_with_a_known_scale(expected):
    # 8 frames of 21 joints; one frame's scale is not known, one joint of another neither.
    assert expected["micro_mpjpe"].count == 7 * 21 - 1
    assert expected["micro_mpvpe"].count == 6
    assert expected["micro_rte"].count == 7
    assert expected["macro_mpjpe"].count == 4


def test_errors_are_mean_distances(case, expected):
    predictions, targets, batch = (jax.device_get(tree) for tree in case)
    distance = np.linalg.norm(predictions["joint_cam"] - targets["joint_cam"], axis=-1)
    keep = batch["joint_valid"] > 0
    keep[2, 1] = False
    np.testing.assert_allclose(expected["micro_mpjpe"].compute(), distance[keep].mean(), rtol=1e-6)
    per_clip = [distance[i][keep[i]].mean() for i in range(4)]
    np.testing.assert_allclose(expected["macro_mpjpe"].compute(), np.mean(per_clip), rtol=1e-6)


def test_area_under_the_curve_is_that_of_the_curve(case, expected):
    predictions, targets, batch = (jax.device_get(tree) for tree in case)
    distance = np.linalg.norm(predictions["joint_rel"] - targets["joint_rel"], axis=-1)
    keep = batch["joint_valid"] > 0
    keep[2, 1] = False
    limits = np.linspace(0.0, 50.0, 20_001)
    curve = (distance[keep][:, None] <= limits).mean(0)
    area = np.trapezoid(curve, limits) / 50.0
    np.testing.assert_allclose(expected["pck_auc"].compute(), area, atol=1e-4)


def test_aligned_error_equals_the_reference_and_ignores_unknown_joints(golden, errors):
    arrays = golden("hand_pose/pa_mpjpe")
    count = len(arrays["in/gt"])
    predictions, targets, batch = hands(jax.random.key(1), count, 1)
    predictions["joint_rel"] = jnp.asarray(arrays["in/pred"])[:, None]
    targets["joint_rel"] = jnp.asarray(arrays["in/gt"])[:, None]
    found = errors(predictions, targets, batch)["pa_mpjpe"]
    np.testing.assert_allclose(found.compute(), arrays["out/pa_mpjpe"], rtol=1e-5)
    # A joint that is not known may be anywhere; two known joints are too few to align.
    batch["joint_valid"] = batch["joint_valid"].at[:, :, 20].set(0.0).at[0, :, :].set(0.0)
    moved = dict(targets, joint_rel=targets["joint_rel"].at[:, :, 20].set(1e6))
    one, other = (errors(predictions, tree, batch)["pa_mpjpe"] for tree in (targets, moved))
    assert one.count == (count - 1) * 20
    np.testing.assert_allclose(other.compute(), one.compute(), rtol=1e-5)


def test_last_frame_alone(case):
    found = jax.jit(partial(hand_errors, last_frame=True))(*case)
    last = [{name: x[:, -1:] for name, x in tree.items()} for tree in case]
    for name, error in jax.jit(hand_errors)(*last).items():
        np.testing.assert_allclose(error.compute(), found[name].compute(), err_msg=name)
