"""Dropout and drop path: the rate is data."""

import chex
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxrecipes.nn import Dropout, DropPath, drop_path, dropout

KEY = jax.random.key(0)


@pytest.mark.parametrize("function", [dropout, drop_path])
def test_a_new_rate_does_not_retrace(function):
    compiled = jax.jit(chex.assert_max_traces(function, n=1))
    x = jnp.ones((4000, 2))
    for rate in (0.0, 0.1, 0.5, 1.0):
        y = compiled(KEY, x, jnp.float32(rate))
        np.testing.assert_allclose((y == 0).mean(), rate, atol=0.03)
        np.testing.assert_allclose(y.mean(), 1.0 if rate < 1 else 0.0, atol=0.06)


@pytest.mark.parametrize("function", [dropout, drop_path])
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_gradients_are_finite_at_the_edges(function, rate):
    def total(x, rate):
        return function(KEY, x, rate).sum()

    dx, drate = jax.grad(total, (0, 1))(jnp.ones((3, 4)), jnp.float32(rate))
    np.testing.assert_array_equal(dx, jnp.full((3, 4), 1.0 - rate))
    assert jnp.isfinite(drate)


def test_drop_path_drops_whole_samples():
    y = drop_path(KEY, jnp.ones((64, 3, 5)), 0.5)
    assert set(np.unique(y)) == {0.0, 2.0}
    np.testing.assert_array_equal(y, jnp.broadcast_to(y[:, :1, :1], y.shape))


@pytest.mark.parametrize("layer", [Dropout(), DropPath()])
def test_nothing_is_drawn_at_a_python_zero_or_outside_training(layer):
    x = jnp.ones((2, 3))
    np.testing.assert_array_equal(layer.apply({}, x, 0.0, train=True), x)  # needs no rng
    np.testing.assert_array_equal(layer.apply({}, x, jnp.float32(0.5), train=False), x)


def test_rates_may_be_mapped():
    rates = jnp.array([0.0, 0.5, 1.0])
    y = jax.vmap(lambda rate: dropout(KEY, jnp.ones(1000), rate))(rates)
    np.testing.assert_allclose((y == 0).mean(1), rates, atol=0.05)
