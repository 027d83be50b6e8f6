"""Rematerialised blocks give the same numbers and keep less."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxrecipes.nn import Dropout, remat_blocks, run_block
from jaxrecipes.nn.remat import NoBlocksError


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, *, train, rate):
        return x + Dropout()(jnp.sin(nn.Dense(4)(jnp.exp(x))), rate, train=train)


class Stack(nn.Module):
    @nn.compact
    def __call__(self, x, *, train, rate):
        for i in range(2):
            x = run_block(Block(name=f"block_{i}"), x, train=train, rate=rate)
        return x


X = jnp.linspace(0.0, 1.0, 12).reshape(3, 4)
VARIABLES = Stack().init(jax.random.key(0), X, train=False, rate=0.0)


def pullback(x, rate):
    def apply(x):
        return Stack().apply(VARIABLES, x, train=True, rate=rate, rngs={"dropout": RNG})

    return jax.vjp(apply, x)


RNG = jax.random.key(1)


def test_a_rematerialised_block_gives_the_same_numbers_and_keeps_less():
    def kept():
        leaves = jax.tree.leaves(jax.eval_shape(lambda *args: pullback(*args)[1], X, 0.3))
        return sum(leaf.size for leaf in leaves)

    (wanted, back), size = pullback(X, jnp.float32(0.3)), kept()
    with remat_blocks():
        given, back_again = pullback(X, jnp.float32(0.3))
        assert kept() < size
    np.testing.assert_array_equal(given, wanted)
    np.testing.assert_allclose(back_again(X)[0], back(X)[0], rtol=1e-6)


def test_a_network_without_blocks_is_refused():
    with pytest.raises(NoBlocksError, match="no blocks that can be recomputed"), remat_blocks():
        nn.Dense(2).apply({"params": {"kernel": jnp.ones((4, 2)), "bias": jnp.zeros(2)}}, X)
