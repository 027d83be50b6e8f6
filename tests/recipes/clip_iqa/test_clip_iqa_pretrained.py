"""Weights of CLIP that a run starts from."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxrecipes.models.clip.weights import read_clip
from jaxrecipes.recipes.clip_iqa import Config, make_recipe
from jaxrecipes.recipes.clip_iqa.config import ClipSource
from jaxrecipes.train import create_state
from jaxrecipes.train.recipe import DataInfo
from jaxrecipes.train.state import starting_weights


@pytest.fixture
def tiny_clip(golden):
    """(folder, architecture, parameters)."""
    folder = golden.path / "clip_iqa/hf_tiny"
    return folder, *read_clip(folder)


def recipe_from(folder, architecture):
    source = ClipSource(size="custom", custom=architecture, weights=str(folder))
    return make_recipe(Config(clip=source), DataInfo(steps_per_epoch=10))


def test_a_run_starts_from_all_weights_of_the_towers(tiny_clip):
    folder, architecture, params = tiny_clip
    recipe = recipe_from(folder, architecture)
    given = starting_weights(recipe)
    jax.tree.map(np.testing.assert_array_equal, given, ({"clip": params}, {}))
    shapes, _ = jax.eval_shape(recipe.init, jax.random.key(0))
    assert jax.tree.structure(given[0]["clip"]) == jax.tree.structure(shapes["clip"])
    jax.eval_shape(lambda key: create_state(recipe, key, given=given), jax.random.key(0))


def test_a_clip_of_another_size_is_refused(tiny_clip):
    folder, architecture, _ = tiny_clip
    wider = dataclasses.replace(architecture, projection_dim=architecture.projection_dim * 2)
    with pytest.raises(ValueError, match="a CLIP of another size"):
        starting_weights(recipe_from(folder, wider))
