"""How many steps share a call is chosen from the step, and said."""

import dataclasses
import logging

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from toy_recipe import toy_config, toy_data, toy_fit, toy_recipe

from jaxrecipes.train.apply_fn import linen_apply
from jaxrecipes.train.programs import DEFAULT_STEPS_PER_CALL, Programs, choose_steps_per_call


class Convolutional(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        del train
        return nn.Dense(1)(nn.Conv(2, (3,))(x[..., None]).mean(1))[:, 0]


def convolutional_recipe():
    model = Convolutional()

    def init(key):
        return model.init(key, jnp.zeros((2, 6)), train=False)["params"], {}

    return toy_recipe(init=init, apply_fn=linen_apply(model))


def config_with(steps_per_call):
    config = toy_config(epochs=1)
    return dataclasses.replace(
        config, loop=dataclasses.replace(config.loop, steps_per_call=steps_per_call)
    )


def programs_of(recipe, steps_per_call):
    config = config_with(steps_per_call)
    data = toy_data(config)
    return Programs(recipe, data, steps_per_call=steps_per_call, mesh=data.mesh)


def said_of(recipe, steps_per_call, workdir, caplog):
    with caplog.at_level(logging.INFO, logger="jaxrecipes"):
        finished = toy_fit(workdir, recipe, config=config_with(steps_per_call))
    assert finished.summary["compilations"]["train"] == 1
    return [r for r in caplog.records if " per call" in r.getMessage()]


def test_a_step_without_convolutions_shares_a_call_with_seven_others():
    chosen = programs_of(toy_recipe(), None).steps_per_call
    assert chosen.count == DEFAULT_STEPS_PER_CALL == 8


def test_a_step_with_a_convolution_goes_alone_on_cpu_and_the_log_says_why(tmp_path, caplog):
    (said,) = said_of(convolutional_recipe(), None, tmp_path, caplog)
    assert said.getMessage().startswith("1 step per call: on CPU XLA runs the conv")


def test_a_number_that_is_given_is_obeyed_with_a_warning_where_it_is_slow(tmp_path, caplog):
    assert programs_of(convolutional_recipe(), 3).steps_per_call.count == 3
    (said,) = said_of(convolutional_recipe(), 3, tmp_path, caplog)
    assert said.levelno == logging.WARNING
    assert said.getMessage().startswith("3 steps per call, as given, is slow: on CPU XLA runs")


@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_a_number_that_is_given_and_suits_is_not_worth_a_line(steps_per_call, tmp_path, caplog):
    assert programs_of(toy_recipe(), steps_per_call).steps_per_call.count == steps_per_call
    assert not said_of(toy_recipe(), steps_per_call, tmp_path, caplog)


def test_a_convolution_for_other_platforms_alone_does_not_count():
    def convolve(x):
        return jax.lax.conv(x, jnp.ones((1, 1, 3, 3)), (1, 1), "SAME")

    @jax.jit
    def step(x):
        return jax.lax.platform_dependent(x, cpu=lambda x: 9 * x, default=convolve)

    image = jax.ShapeDtypeStruct((1, 1, 8, 8), jnp.float32)
    everywhere = jax.jit(lambda x: jax.lax.map(convolve, x[None]))
    assert choose_steps_per_call(None, step, image, on_cpu=True).count == DEFAULT_STEPS_PER_CALL
    assert choose_steps_per_call(None, everywhere, image, on_cpu=True).count == 1
    assert (
        choose_steps_per_call(None, everywhere, image, on_cpu=False).count == DEFAULT_STEPS_PER_CALL
    )
