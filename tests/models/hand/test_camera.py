"""Cameras: the original's matrices, and that images move as points do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.models.hand import camera
from jaxrecipes.models.hand.rotations import axis_angle_to_matrix


@pytest.fixture(scope="module")
def arrays(golden):
    return golden("hand_pose/camera_math")


@pytest.fixture(scope="module")
def view(arrays):
    """The matrices of points and of pixels."""
    change = (arrays["in/rad"], arrays["in/scale_z"], axis_angle_to_matrix(arrays["in/axis_angle"]))
    cameras = {
        ours: arrays[f"in/{theirs}"]
        for ours, theirs in (
            ("focal", "focal_old"),
            ("princpt", "princpt_old"),
            ("new_focal", "focal_new"),
            ("new_princpt", "princpt_new"),
        )
    }
    return (
        jax.jit(camera.view_change_3d)(*change),
        jax.jit(camera.view_change_2d)(*change, **cameras),
    )


def project(arrays, points, which):
    focal, princpt = arrays[f"in/focal_{which}"], arrays[f"in/princpt_{which}"]
    return camera.project(points, focal[:, None], princpt[:, None])


def moved(view, arrays):
    return np.einsum("nij,npj->npi", view[0], arrays["in/points3d"])


def test_view_changes_equal_the_original(view, arrays):
    np.testing.assert_allclose(view[0], arrays["out/mat3d"], atol=2e-6)
    np.testing.assert_allclose(view[1], arrays["out/mat2d"], atol=5e-4)


def test_points_and_projections_equal_the_original(view, arrays):
    points = jax.jit(camera.transform_points)(view[1], arrays["in/points"])
    np.testing.assert_allclose(points, arrays["out/points"], atol=1e-3)
    old = project(arrays, arrays["in/points3d"], "old")
    np.testing.assert_allclose(old, arrays["out/proj_old"], atol=1e-3)
    np.testing.assert_allclose(moved(view, arrays), arrays["out/points3d_new"], atol=2e-3)
    new = project(arrays, arrays["out/points3d_new"], "new")
    np.testing.assert_allclose(new, arrays["out/proj_new"], atol=1e-3)


def test_moving_the_image_is_projecting_the_moved_points(view, arrays):
    image = camera.transform_points(view[1], project(arrays, arrays["in/points3d"], "old"))
    points = project(arrays, moved(view, arrays), "new")
    np.testing.assert_allclose(image, points, atol=2e-3)


def test_intrinsics_and_their_inverse():
    focal, princpt = np.array([500.0, 480.0]), np.array([60.0, 70.0])
    matrix = camera.intrinsics(focal, princpt)
    inverse = camera.inverse_intrinsics(focal, princpt)
    np.testing.assert_allclose(matrix @ inverse, np.eye(3), atol=1e-6)
    point = np.array([3.0, -4.0, 50.0])
    np.testing.assert_allclose(
        (matrix @ point)[:2] / point[2], camera.project(point, focal, princpt), rtol=1e-6
    )


def test_a_pixel_is_turned_to_the_axis():
    focal, princpt = np.array([100.0, 120.0]), np.array([64.0, 64.0])
    pixels = np.array([[10.0, 90.0], [300.0, 0.0], [64.0, 64.0]])
    turn = jax.jit(camera.turn_to_axis)(pixels, focal, princpt)
    rays = np.concatenate([(pixels - princpt) / focal, np.ones((3, 1))], 1)
    turned = np.einsum("nij,nj->ni", turn, rays)
    np.testing.assert_allclose(turned[:, :2], 0.0, atol=1e-5)
    assert (turned[:, 2] > 0).all()
    np.testing.assert_array_equal(turn[2], np.eye(3))


def test_points_behind_and_at_infinity_stay_finite():
    gradient = jax.grad(lambda p: camera.project(p, jnp.ones(2), jnp.ones(2)).sum())
    assert np.isfinite(gradient(jnp.array([1.0, 1.0, 0.0]))).all()
    flat = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(camera.transform_points(flat, np.array([[2.0, 3.0]])), [[2, 3]])
