"""The programs of every recipe under what a host program may have set in jax; traced alone."""

import re

import jax
import pytest
from numeric_modes import all_modes, types
from small_recipes import small_recipes

from jaxrecipes.losses import composite_loss
from jaxrecipes.train import create_state, make_train_step
from jaxrecipes.train.step import current_hparams

KINDS = {"f32", "i32", "bool", "key<fry>"}


@pytest.fixture(scope="module")
def recipes():
    return small_recipes()


def kinds(tree):
    return {short.split("[")[0] for short in types(tree).values()}


@pytest.mark.parametrize(
    "name",
    [
        "ocec focal",
        "ocec mlp_mixer",
        "universal_face phrases",
        "face3d keypoints",
        "clip_iqa traditional",
        "hand_pose stage1",
        "hand_pose stage2",
    ],
)
def test_a_step_gives_a_state_of_the_types_that_it_took(recipes, name):
    small = recipes[name]
    with all_modes():
        key = jax.eval_shape(lambda: jax.random.key(0))
        state = jax.eval_shape(lambda key: create_state(small.recipe, key), key)
        program, (new_state, metrics) = jax.make_jaxpr(
            make_train_step(small.recipe), return_shape=True
        )(state, small.train)
    assert kinds(state) <= KINDS  # "~f32" would be one that a Python number made
    assert types(new_state) == types(state)  # so that the next step is no other program
    assert kinds(metrics) <= {"f32", "i32"}
    assert not re.search(r"\bf64\[\d", str(program))


@pytest.mark.parametrize(
    "name", ["ocec avg", "universal_face", "face3d decoder", "clip_iqa residual", "hand_pose rays"]
)
def test_an_evaluation_is_float32(recipes, name):
    recipe, batch = recipes[name].recipe, recipes[name].evaluate

    def evaluate(state, batch):
        batch, hparams = recipe.preprocess(batch), current_hparams(recipe, state)
        outputs, _ = recipe.apply_fn(
            state.params,
            state.batch_stats,
            recipe.inputs(batch),
            hparams=hparams,
            train=False,
            key=state.key,
        )
        terms = recipe.loss_terms(outputs, batch, hparams)
        loss = composite_loss(terms, hparams, mask=batch["mask"])
        found = recipe.metrics(outputs, batch, hparams)
        figures = {name: metric.compute() for name, metric in found.items()}
        return loss, found, figures, recipe.predictions(outputs, batch)

    with all_modes():
        key = jax.eval_shape(lambda: jax.random.key(0))
        state = jax.eval_shape(lambda key: create_state(recipe, key), key)
        found = jax.eval_shape(evaluate, state, batch)
    assert kinds(found) <= {"f32", "i32"}
