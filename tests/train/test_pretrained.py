"""Weights that a new run starts from in place of drawn ones (`Recipe.pretrained`)."""

import jax
import numpy as np
import pytest
from toy_recipe import toy_config, toy_fit, toy_recipe

from jaxrecipes.train import create_state
from jaxrecipes.train.state import starting_weights

GIVEN = {"out": {"kernel": np.full((8, 1), 0.5, np.float32)}}


def test_given_weights_take_the_place_of_drawn_ones_in_the_state_and_its_average():
    recipe, key = toy_recipe(pretrained=lambda params, stats: (GIVEN, {})), jax.random.key(0)
    create = jax.jit(lambda key, given: create_state(recipe, key, given=given))
    state, drawn = create(key, starting_weights(recipe)), create(key, ({}, {}))
    for params in (state.params, state.ema_params):
        np.testing.assert_array_equal(params["out"]["kernel"], GIVEN["out"]["kernel"])
    kept = {name: leaf for name, leaf in state.params.items() if name != "out"}
    jax.tree.map(np.testing.assert_array_equal, kept, {name: drawn.params[name] for name in kept})
    jax.tree.map(np.testing.assert_array_equal, state.opt_state, drawn.opt_state)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"out": {"kernel": np.zeros((9, 1))}}, r"out/kernel has shape \(9, 1\).* is \(8, 1\)"),
        ({"out": {"weight": np.zeros((8, 1))}}, "the network has no out/weight"),
    ],
)
def test_weights_that_do_not_fit_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        create_state(toy_recipe(), jax.random.key(0), given=(given, {}))


def test_they_are_asked_for_once_and_not_when_the_run_goes_on(tmp_path):
    asked = []

    def pretrained(params, batch_stats):
        asked.append((params["out"]["kernel"].shape, batch_stats.keys()))
        return GIVEN, {}

    def stop(history):
        raise InterruptedError

    recipe = toy_recipe(pretrained=pretrained)
    config = toy_config(epochs=2)
    with pytest.raises(InterruptedError):
        toy_fit(tmp_path / "stopped", recipe, config=config, after_epoch=stop)
    finished = toy_fit(tmp_path / "stopped", recipe, config=config)
    assert asked == [((8, 1), {"norm"})]
    whole = toy_fit(tmp_path / "whole", recipe, config=config)
    jax.tree.map(np.testing.assert_array_equal, finished.params, whole.params)
