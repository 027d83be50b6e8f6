import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from toy_recipe import NUM_FEATURES, toy_batch, toy_recipe

from jaxrecipes.nn import dropout
from jaxrecipes.train import create_state, make_train_step
from jaxrecipes.train.apply_fn import linen_apply, linen_init, nnx_apply, nnx_split


class NnxToy(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(NUM_FEATURES, 8, use_bias=False, rngs=rngs)])
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.out = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x, *, train, dropout_rate=0.0, key=None):
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x, use_running_average=not train)
        if train:
            x = dropout(key, x, dropout_rate)
        return self.out(x)[:, 0]


def test_an_nnx_model_trains_through_the_same_step():
    model = NnxToy(nnx.Rngs(0))
    _, params, batch_stats = nnx_split(model)
    assert params["layers"]["0"]["kernel"].shape == (NUM_FEATURES, 8)
    recipe = toy_recipe(init=lambda key: (params, batch_stats), apply_fn=nnx_apply(model))
    state = jax.jit(lambda key: create_state(recipe, key))(jax.random.key(0))
    step = jax.jit(make_train_step(recipe))
    losses = []
    for i in range(30):
        state, metrics = step(state, toy_batch(i))
        losses.append(float(metrics.log["loss"]))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert not np.array_equal(state.batch_stats["norm"]["mean"], batch_stats["norm"]["mean"])
    # The module that gave the structure is not touched.
    np.testing.assert_array_equal(model.norm.mean[...], jnp.zeros(8))
    outputs, unchanged = recipe.apply_fn(
        state.params, state.batch_stats, toy_batch(0)["x"], hparams={}, train=False, key=None
    )
    assert outputs.shape == (16,)
    assert unchanged is state.batch_stats


class Scaled(nn.Module):
    """A Linen network that is alike in training and evaluation, but for a rate."""

    @nn.compact
    def __call__(self, x, *, scale=1.0):
        return scale * nn.Dense(1)(x)


def test_a_linen_network_is_given_the_hyperparameters_it_asks_for_in_training_alone():
    params, batch_stats = linen_init(Scaled(), jax.ShapeDtypeStruct((2, 3), jnp.float32))(
        jax.random.key(0)
    )
    assert batch_stats == {}
    hparams, x = {"scale": jnp.float32(3.0), "unknown": jnp.float32(0.0)}, jnp.ones((2, 3))
    apply_fn = linen_apply(Scaled())
    trained, evaluated = (
        apply_fn(params, {}, x, hparams=hparams, train=train, key=jax.random.key(1))[0]
        for train in (True, False)
    )
    np.testing.assert_allclose(trained, 3.0 * evaluated, rtol=1e-6)


def test_a_linen_network_with_a_state_of_its_own_is_refused():
    class Counting(nn.Module):
        @nn.compact
        def __call__(self, x):
            self.variable("counts", "calls", lambda: jnp.zeros(()))
            return x

    with pytest.raises(ValueError, match="keeps the collections counts"):
        linen_init(Counting(), jax.ShapeDtypeStruct((2, 3), jnp.float32))(jax.random.key(0))
