"""Learned loss weights in the step, in a run, and in a run that is stopped."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_recipe import toy_batch, toy_config, toy_fit, toy_hparams, toy_recipe

from jaxrecipes.interrupt import Interrupt
from jaxrecipes.losses import LossWeighting
from jaxrecipes.optim import global_norm
from jaxrecipes.train.config import LossWeightingConfig
from jaxrecipes.train.state import create_state
from jaxrecipes.train.step import make_train_step

KINDS = ["uncertainty", "gradnorm"]
HPARAMS = toy_hparams(loss_weighting_rate=0.05, loss_weighting_alpha=1.5, dropout_rate=0.0)


def recipe_with(kind, **fields):
    weighting = LossWeighting(kind, ("^out/",) if kind == "gradnorm" else ())
    return toy_recipe(hparams=HPARAMS, loss_weighting=weighting, **fields)


@pytest.mark.parametrize("kind", KINDS)
def test_the_factors_move_and_the_log_shows_the_weights_that_were_used(kind):
    recipe = recipe_with(kind)
    state, step = create_state(recipe, jax.random.key(0)), jax.jit(make_train_step(recipe))
    fixed = jax.jit(make_train_step(toy_recipe(hparams=HPARAMS)))
    other = state.replace(loss_weighting=None)
    state, metrics = step(state, toy_batch())
    other, wanted = fixed(other, toy_batch())
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)  # all factors begin with 1
    assert metrics.log["hparams/loss_weight/l2"] == wanted.log["hparams/loss_weight/l2"]
    state, metrics = step(state, toy_batch(1))
    assert metrics.log["hparams/loss_weight/l2"] != wanted.log["hparams/loss_weight/l2"]
    terms = {
        name: metrics.log[f"hparams/loss_weight/{name}"] * metrics.log[f"loss/{name}"]
        for name in ("bce", "l2")
    }
    np.testing.assert_allclose(metrics.log["loss"], sum(terms.values()), rtol=1e-6)


def test_gradnorm_compares_the_gradients_of_the_parameters_that_the_rules_name():
    recipe = recipe_with("gradnorm")
    state, batch = create_state(recipe, jax.random.key(0)), toy_batch()
    _, metrics = jax.jit(make_train_step(recipe))(state, batch)

    def bce(out):
        params = state.params | {"out": out}
        outputs, _ = recipe.apply_fn(
            params,
            state.batch_stats,
            batch["x"],
            hparams={"dropout_rate": 0.0},
            train=True,
            key=jax.random.key(0),
        )
        return recipe.loss_terms(outputs, batch, {})["bce"].mean()

    wanted = global_norm(jax.grad(bce)(state.params["out"]))
    np.testing.assert_allclose(metrics.log["term_grad_norm/bce"], wanted, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_is_skipped_leaves_the_factors_alone(kind):
    recipe = recipe_with(kind)
    state, step = create_state(recipe, jax.random.key(0)), jax.jit(make_train_step(recipe))
    state, _ = step(state, toy_batch())
    batch = toy_batch(1)
    after, _ = step(state, batch | {"x": batch["x"].at[0, 0].set(jnp.nan)})
    assert int(after.num_skipped) == 1
    before = jax.tree.leaves(state.loss_weighting)
    for a, b in zip(jax.tree.leaves(after.loss_weighting), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_move_the_factors_once(kind):
    whole, parts = recipe_with(kind), recipe_with(kind, accumulation_steps=2)
    state, batch = create_state(whole, jax.random.key(0)), toy_batch()
    twice = jax.tree.map(lambda x: jnp.stack([x, x]), batch)
    left, _ = jax.jit(make_train_step(whole))(state, batch)
    right, _ = jax.jit(make_train_step(parts))(state, twice)
    for a, b in zip(
        jax.tree.leaves(left.loss_weighting), jax.tree.leaves(right.loss_weighting), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_judged_by_the_given_weights_and_goes_on_bit_for_bit(kind, tmp_path, monkeypatch):
    recipe, config = recipe_with(kind), toy_config(epochs=2)
    whole = toy_fit(tmp_path / "whole", recipe, config=config)
    calls = iter(range(100))
    with monkeypatch.context() as stopping:
        stopping.setattr(Interrupt, "requested_anywhere", lambda self: next(calls) == 2)
        assert toy_fit(tmp_path / "stopped", recipe, config=config) is None
    again = toy_fit(tmp_path / "stopped", recipe, config=config)
    for a, b in zip(jax.tree.leaves(again.params), jax.tree.leaves(whole.params), strict=True):
        np.testing.assert_array_equal(a, b)
    one, other = (
        json.loads((tmp_path / name / "history.json").read_text()) for name in ("whole", "stopped")
    )
    assert [e["val"] for e in one] == [e["val"] for e in other]
    val, weights = one[-1]["val"], one[-1]["hparams"]
    assert val["loss"] == pytest.approx(val["loss/bce"] + 0.1 * val["loss/l2"], rel=1e-5)
    learned = [weights[f"loss_weight/{name}"] * val[f"loss/{name}"] for name in ("bce", "l2")]
    assert val["loss_now"] == pytest.approx(sum(learned), rel=1e-5)


def test_a_run_that_had_fixed_weights_may_learn_them_from_here_on(tmp_path):
    config = toy_config(epochs=1)
    toy_fit(tmp_path, toy_recipe(hparams=HPARAMS), config=config)
    learned = dataclasses.replace(
        config, epochs=2, loss_weighting=LossWeightingConfig(kind="uncertainty")
    )
    finished = toy_fit(
        tmp_path, recipe_with("uncertainty"), config=learned, allow_config_change=True
    )
    assert finished.summary["final"]["step"] == 16


def test_a_recipe_with_a_single_term_is_refused():
    hparams = {name: s for name, s in HPARAMS.items() if name != "loss_weight/l2"}
    with pytest.raises(ValueError, match="the loss has bce alone"):
        toy_recipe(hparams=hparams, loss_weighting=LossWeighting("uncertainty"))
