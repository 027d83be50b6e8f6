import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.losses.robust import absolute, robust_l1


@pytest.mark.parametrize("delta", [84, 20])
def test_robust_l1_and_its_gradient_equal_the_original(golden, delta):
    arrays = golden("hand_pose/robust_l1")
    errors = jnp.asarray(arrays["in/diff"])
    np.testing.assert_allclose(
        robust_l1(errors, delta=delta), arrays[f"out/loss_delta{delta}"], rtol=1e-6
    )
    # Where the original's gradient is NaN, at 0, the golden array has 0.
    gradient = jax.grad(lambda x: robust_l1(x, delta=delta).sum())(errors)
    np.testing.assert_allclose(gradient, arrays[f"grad/diff_delta{delta}"], rtol=2e-6, atol=0)


def test_no_gradient_at_an_exact_zero_and_one_at_delta():
    for function in (absolute, lambda x: robust_l1(x, delta=2.0)):
        gradient = jax.vmap(jax.grad(function))(jnp.array([-2.0, -0.0, 0.0, 2.0]))
        np.testing.assert_array_equal(gradient, [-1.0, 0.0, 0.0, 1.0])
