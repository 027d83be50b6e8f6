"""Runs under a host's 64 bits and strict promotion; such a run and one without open each other."""

import jax
import numpy as np
import pytest
from numeric_modes import all_modes, types
from toy_recipe import toy_config, toy_fit, toy_recipe

from jaxrecipes.plateau import ReduceLROnPlateau
from jaxrecipes.precision import LossScale


def run(workdir, epochs):
    recipe = toy_recipe(plateau=ReduceLROnPlateau(patience=0), loss_scale=LossScale())
    config = toy_config(epochs=epochs)
    return toy_fit(workdir, recipe, config=config, allow_config_change=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return run(tmp_path_factory.mktemp("alone"), 2)


def same(finished, other):
    assert types(finished.params) == types(other.params)
    for a, b in zip(jax.tree.leaves(finished.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_learns_the_same_with_64_bits(tmp_path, alone):
    with all_modes():
        same(run(tmp_path, 2), alone)


def test_a_run_with_64_bits_goes_on_without(tmp_path, alone):
    with all_modes():
        run(tmp_path, 1)
    same(run(tmp_path, 2), alone)


def test_a_run_without_64_bits_goes_on_with_them(tmp_path, alone):
    run(tmp_path, 1)
    with all_modes():
        same(run(tmp_path, 2), alone)
