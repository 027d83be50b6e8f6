import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipes.losses import difficulty_weights


@jax.jit
def weights(cosine, angle, gamma, kappa, mask):
    return difficulty_weights(cosine, angle, focal_gamma=gamma, angle_kappa=kappa, mask=mask)


def draw(seed):
    rng = np.random.default_rng(seed)
    cosine, angle = rng.uniform(-1, 1, 16), rng.uniform(-180, 180, 16)
    return cosine.astype(np.float32), angle.astype(np.float32)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.floats(0, 5), st.floats(0, 5))
def test_the_mean_of_the_kept_is_one(seed, gamma, kappa):
    mask = np.arange(16) < 11
    found = weights(*draw(seed), gamma, kappa, mask)
    np.testing.assert_allclose(found[mask].mean(), 1, rtol=1e-5)


def test_exactly_one_without_gamma_and_kappa():
    cosine, angle = draw(0)
    cosine[0] = 1.0
    np.testing.assert_array_equal(weights(cosine, angle, 0.0, 0.0, np.ones(16)), 1)


def test_harder_examples_and_wider_angles_weigh_more():
    cosine, angle = np.array([0.9, 0.5, -0.5], np.float32), np.array([0, 45, -170], np.float32)
    equal = np.ones(3, np.float32)
    focal = difficulty_weights(cosine, equal, focal_gamma=2.0, angle_kappa=0.0)
    np.testing.assert_allclose(focal / focal[0], [1, 25, 225], rtol=1e-4)
    turned = difficulty_weights(equal * 0, angle, focal_gamma=0.0, angle_kappa=1.0)
    np.testing.assert_allclose(turned / turned[0], [1, 1.5, 2], rtol=1e-6)


def test_perfect_predictions_all_weigh_one():
    ones = np.ones(4, np.float32)
    found = difficulty_weights(ones, ones, focal_gamma=2.0, angle_kappa=1.0)
    np.testing.assert_array_equal(found, 1)


def test_no_gradient_goes_through_the_weights():
    cosine, angle = draw(1)
    slope = jax.grad(
        lambda c: (difficulty_weights(c, angle, focal_gamma=2.0, angle_kappa=1.0) * angle).sum()
    )(jnp.asarray(cosine))
    np.testing.assert_array_equal(slope, 0)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        difficulty_weights(jnp.ones(3), jnp.ones(4), focal_gamma=0.0, angle_kappa=0.0)
