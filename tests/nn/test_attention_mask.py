"""Masked self-attention, and the activation of CLIP."""

import jax
import numpy as np
import pytest

from jaxrecipes.nn import SelfAttention, quick_gelu

TOKENS = 5


@pytest.fixture(scope="module")
def attend():
    layer = SelfAttention(2)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, TOKENS, 4)).astype(np.float32)
    sizes = jax.eval_shape(lambda: layer.init(jax.random.key(0), x, train=False))
    variables = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), sizes)
    return x, jax.jit(lambda x, mask: layer.apply(variables, x, train=False, mask=mask))


def test_behind_a_causal_mask_no_token_sees_a_later_one(attend):
    x, apply = attend
    causal = np.tril(np.ones((1, 1, TOKENS, TOKENS), bool))
    changed = x + np.eye(TOKENS, dtype=np.float32)[3, :, None]
    before, after = apply(x, causal), apply(changed, causal)
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert (np.abs(before[:, 3:] - after[:, 3:]).max(-1) > 1e-4).all()


def test_a_mask_that_hides_nothing_changes_nothing(attend):
    x, apply = attend
    nothing = np.ones((1, 1, TOKENS, TOKENS), bool)
    np.testing.assert_allclose(apply(x, nothing), apply(x, None), atol=1e-6)


def test_a_query_that_sees_no_key_has_a_finite_value_and_gradient(attend):
    x, apply = attend
    mask = np.arange(TOKENS)[None, None, :, None] != np.ones((1, 1, 1, TOKENS))
    value, gradient = jax.jit(jax.value_and_grad(lambda x: apply(x, mask).sum()))(x)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_quick_gelu_and_its_gradient_are_finite_far_out():
    x = np.array([-200.0, -3.0, 0.0, 0.5, 200.0], np.float32)
    expected = np.array([0.0, -3.0 / (1 + np.exp(5.106)), 0.0, 0.5 / (1 + np.exp(-0.851)), 200.0])
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(quick_gelu)))(x)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-7)
    sigmoid = 1 / (1 + np.exp(-1.702 * np.clip(x, -50, 50)))
    np.testing.assert_allclose(
        slopes, sigmoid * (1 + 1.702 * x * (1 - sigmoid)), rtol=1e-5, atol=1e-6
    )
