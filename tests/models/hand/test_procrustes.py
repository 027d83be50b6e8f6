"""Similarity alignment: the reference's values, invariance, masks, edges."""

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from jaxrecipes.models.hand.alignment import procrustes_align, similarity

align, find = jax.jit(procrustes_align), jax.jit(similarity)
EXAMPLES = hypothesis.settings(deadline=None, max_examples=25, derandomize=True)


def random_similarity(seed):
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation *= np.linalg.det(rotation)
    points = rng.normal(0, 50, (21, 3))
    return points, float(np.exp(rng.normal())), rotation, rng.normal(0, 100, 3)


def test_aligned_joints_equal_the_reference(golden):
    arrays = golden("hand_pose/pa_mpjpe")
    aligned = align(arrays["in/pred"], arrays["in/gt"])
    np.testing.assert_allclose(aligned, arrays["out/aligned"], atol=5e-4)
    errors = np.linalg.norm(aligned - arrays["in/gt"], axis=-1).mean(-1)
    np.testing.assert_allclose(errors, arrays["out/pa_per_sample"], rtol=1e-5)


@hypothesis.given(st.integers(0, 10_000))
@EXAMPLES
def test_a_similarity_is_undone(seed):
    points, scale, rotation, shift = random_similarity(seed)
    found = find(points, scale * points @ rotation.T + shift)
    np.testing.assert_allclose(found.scale, scale, rtol=1e-4)
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-4)
    np.testing.assert_allclose(found.translation, shift, atol=0.02 * scale + 0.02)


@hypothesis.given(st.integers(0, 10_000))
@EXAMPLES
def test_the_aligned_points_do_not_depend_on_where_the_source_lay(seed):
    points, scale, rotation, shift = random_similarity(seed)
    target = points + np.random.default_rng(seed + 1).normal(0, 10, points.shape)
    placed = scale * points @ rotation.T + shift
    np.testing.assert_allclose(align(placed, target), align(points, target), atol=0.05)


def test_a_mirror_image_is_not_matched_by_a_reflection():
    points, *_ = random_similarity(0)
    found = find(points * np.array([-1.0, 1, 1]), points)
    np.testing.assert_allclose(np.linalg.det(found.rotation), 1.0, atol=1e-5)


def test_masked_points_do_not_count():
    points, scale, rotation, shift = random_similarity(3)
    target = scale * points @ rotation.T + shift
    mask = np.ones(21)
    mask[[2, 9]] = 0.0
    wrong = np.where(mask[:, None] > 0, target, 1e4)
    np.testing.assert_allclose(align(points, wrong, mask=mask), target, atol=0.05)


def test_points_in_one_place_are_put_at_the_middle_of_the_target():
    points, *_ = random_similarity(4)
    aligned = align(np.ones((21, 3)), points)
    np.testing.assert_allclose(aligned, np.tile(points.mean(0), (21, 1)), atol=1e-4)
    assert np.isfinite(align(points, points, mask=np.zeros(21))).all()


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"got \(21, 3\) and \(20, 3\)"):
        procrustes_align(np.zeros((21, 3)), np.zeros((20, 3)))
