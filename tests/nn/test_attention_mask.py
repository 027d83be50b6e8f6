"""Masked self-attention, and the activation of CLIP."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxrecipes.nn import SelfAttention, quick_gelu

TOKENS = 5


@pytest.fixture(scope="module")
def attend():
    layer = SelfAttention(2)
    x = jax.random.normal(jax.random.key(0), (2, TOKENS, 4))
    variables = layer.init(jax.random.key(1), x, train=False)
    return x, jax.jit(lambda x, mask: layer.apply(variables, x, train=False, mask=mask))


def test_behind_a_causal_mask_no_token_sees_a_later_one(attend):
    x, apply = attend
    causal = jnp.tril(jnp.ones((1, 1, TOKENS, TOKENS), bool))
    changed = x.at[:, 3].add(1.0)
    before, after = apply(x, causal), apply(changed, causal)
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert (np.abs(before[:, 3:] - after[:, 3:]).max(-1) > 1e-4).all()


def test_a_mask_that_hides_nothing_changes_nothing(attend):
    x, apply = attend
    nothing = jnp.ones((1, 1, 1, TOKENS), bool)
    np.testing.assert_allclose(apply(x, nothing), apply(x, None), atol=1e-6)


def test_a_query_that_sees_no_key_has_a_finite_value_and_gradient(attend):
    x, apply = attend
    mask = jnp.ones((2, 1, TOKENS, TOKENS), bool).at[:, :, 1].set(False)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: apply(x, mask).sum()))(x)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_quick_gelu_and_its_gradient_are_finite_far_out():
    x = jnp.array([-200.0, -3.0, 0.0, 0.5, 200.0])
    expected = np.array([0.0, -3.0 / (1 + np.exp(5.106)), 0.0, 0.5 / (1 + np.exp(-0.851)), 200.0])
    np.testing.assert_allclose(quick_gelu(x), expected, rtol=1e-5, atol=1e-7)
    slopes = jax.vmap(jax.grad(quick_gelu))(x)
    np.testing.assert_allclose(slopes[jnp.array([0, 2, 4])], [0.0, 0.5, 1.0], atol=1e-6)
    h = 1e-2
    np.testing.assert_allclose(slopes, (quick_gelu(x + h) - quick_gelu(x - h)) / (2 * h), atol=2e-3)
