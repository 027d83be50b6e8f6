import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.losses.heatmap import gaussian_target, heatmap_cross_entropy

CENTERS = np.linspace(-2.0, 2.0, 41, dtype=np.float32)


def test_cross_entropy_equals_the_original(golden):
    arrays = golden("hand_pose/loss_seed")
    found = heatmap_cross_entropy(
        arrays["in/hm_logp"], arrays["in/hm_gt"], arrays["in/centers_x"], sigma=0.09
    )
    np.testing.assert_allclose(found, arrays["out/hm_ce"], rtol=1e-5, atol=1e-6)


def test_target_is_a_distribution_with_the_value_as_its_mean():
    target = gaussian_target(jnp.array([0.33, -1.0]), CENTERS, sigma=0.2)
    np.testing.assert_allclose(target.sum(-1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(target @ CENTERS, [0.33, -1.0], atol=1e-4)


def test_a_value_far_outside_the_bins_has_no_loss_and_no_gradient():
    def loss(logits):
        return heatmap_cross_entropy(
            jax.nn.log_softmax(logits), jnp.float32(9.0), CENTERS, sigma=0.09
        )

    value, gradient = jax.value_and_grad(loss)(jnp.linspace(0.0, 1.0, 41))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0.0)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"\(3, 40\)"):
        heatmap_cross_entropy(jnp.zeros((3, 40)), jnp.zeros(3), CENTERS, sigma=0.1)
