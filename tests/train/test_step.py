import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy_recipe import NUM_FEATURES, toy_batch, toy_hparams, toy_recipe

from jaxrecipes import schedules
from jaxrecipes.plateau import ReduceLROnPlateau
from jaxrecipes.precision import LossScale
from jaxrecipes.schedules import as_schedule
from jaxrecipes.train import create_state, make_train_step


def new_state(recipe, seed=0):
    state = jax.jit(lambda key: create_state(recipe, key))(jax.random.key(seed))
    return jax.tree.map(jnp.copy, state)


def assert_equal(left, right):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b)


TRACES = []
RECIPE = toy_recipe()


@jax.jit
def shared_step(state, batch):
    """The default toy recipe's step, compiled once for all tests that change numbers only."""
    TRACES.append(1)
    return make_train_step(RECIPE)(state, batch)


@functools.cache
def _initial():
    return jax.jit(lambda key: create_state(RECIPE, key))(jax.random.key(0))


def shared_state():
    return jax.tree.map(jnp.copy, _initial())


def test_the_loss_falls_and_every_hyperparameter_is_in_the_log():
    state = shared_state()
    losses = []
    for i in range(60):
        state, metrics = shared_step(state, toy_batch(i))
        losses.append(float(metrics.log["loss"]))
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert {f"hparams/{name}" for name in RECIPE.hparams} <= metrics.log.keys()
    assert {"loss", "loss/bce", "loss/l2", "grad_norm"} <= metrics.log.keys()
    assert int(state.step) == 60


@pytest.mark.parametrize("name", sorted(toy_hparams()))
def test_a_hyperparameter_changes_in_mid_run_without_a_compilation(name):
    state, _ = shared_step(shared_state(), toy_batch(0))
    changed = state.replace(hparams=state.hparams | {name: as_schedule(jnp.float32(0.37))})
    same, _ = shared_step(state, toy_batch(1))
    other, metrics = shared_step(changed, toy_batch(1))
    assert len(TRACES) == 1
    assert float(metrics.log[f"hparams/{name}"]) == pytest.approx(0.37)
    moved = [
        not np.array_equal(a, b)
        for a, b in zip(
            jax.tree.leaves((same.params, same.ema_params)),
            jax.tree.leaves((other.params, other.ema_params)),
            strict=True,
        )
    ]
    assert any(moved), f"{name} has no effect"


def test_a_schedule_drives_any_hyperparameter():
    rate = schedules.delayed(0.4, start_step=2)
    recipe = toy_recipe(
        hparams=toy_hparams(dropout_rate=rate, weight_decay=schedules.linear(0.0, 1.0, steps=4))
    )
    step, state = jax.jit(make_train_step(recipe)), new_state(recipe)
    seen = []
    for i in range(4):
        state, metrics = step(state, toy_batch(i))
        seen.append(
            (float(metrics.log["hparams/dropout_rate"]), float(metrics.log["hparams/weight_decay"]))
        )
    np.testing.assert_allclose(seen, [(0, 0), (0, 0.25), (0.4, 0.5), (0.4, 0.75)], rtol=1e-6)


def test_an_optax_schedule_is_accepted():
    recipe = toy_recipe(hparams=toy_hparams(learning_rate=optax.exponential_decay(0.1, 2, 0.5)))
    step, state = jax.jit(make_train_step(recipe)), new_state(recipe)
    for i, wanted in enumerate([0.1, 0.1 * 0.5**0.5, 0.05]):
        state, metrics = step(state, toy_batch(i))
        assert float(metrics.log["hparams/learning_rate"]) == pytest.approx(wanted, rel=1e-6)


def test_trials_under_vmap_equal_separate_runs():
    settings = {
        "learning_rate": [0.05, 0.01, 0.1, 0.02],
        "weight_decay": [0.0, 0.1, 0.01, 0.5],
        "dropout_rate": [0.0, 0.3, 0.1, 0.5],
        "loss_weight/l2": [0.0, 0.1, 1.0, 0.3],
        "ema_decay": [0.9, 0.5, 0.99, 0.0],
    }
    step = make_train_step(RECIPE)
    states = []
    for i in range(4):
        state = shared_state()
        own = {name: as_schedule(jnp.float32(values[i])) for name, values in settings.items()}
        states.append(state.replace(hparams=state.hparams | own))
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    all_at_once = jax.jit(jax.vmap(step, in_axes=(0, None)))
    for i in range(10):
        together, metrics = all_at_once(together, toy_batch(i))
        states, alone = zip(*[shared_step(state, toy_batch(i)) for state in states], strict=True)
        np.testing.assert_allclose(metrics.log["loss"], [m.log["loss"] for m in alone], rtol=2e-5)
    for trial, state in enumerate(states):
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(state), strict=True):
            if jnp.issubdtype(a.dtype, jnp.floating):
                np.testing.assert_allclose(a[trial], b, rtol=1e-4, atol=1e-5)


def test_micro_batches_equal_the_mean_of_their_gradients():
    """Without batch statistics in the loss, k micro-batches are one large batch."""
    hparams = toy_hparams(dropout_rate=0.0)
    whole, parts = toy_recipe(hparams=hparams), toy_recipe(hparams=hparams, accumulation_steps=2)
    batch = toy_batch(0, 16)
    # Two equal halves have the statistics of the whole.
    twice = jax.tree.map(lambda x: jnp.stack([x, x]), batch)
    state = new_state(whole)
    left, left_metrics = jax.jit(make_train_step(whole))(state, batch)
    right, right_metrics = jax.jit(make_train_step(parts))(state, twice)
    np.testing.assert_allclose(left_metrics.log["loss"], right_metrics.log["loss"], rtol=1e-6)
    for a, b in zip(jax.tree.leaves(left.params), jax.tree.leaves(right.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert int(right.step) == 1
    assert float(right_metrics.sums["classification"].compute()["accuracy"]) == pytest.approx(
        float(left_metrics.sums["classification"].compute()["accuracy"])
    )
    running = jax.tree.map(
        lambda old, a, b: (a - old, b - old), state.batch_stats, left.batch_stats, right.batch_stats
    )
    first, second = running["norm"]["mean"]
    np.testing.assert_allclose(
        second, first * 1.9, rtol=1e-4, atol=1e-7
    )  # two moves of momentum 0.1


def test_a_step_that_is_not_finite_is_skipped_and_counted():
    step = shared_step
    state, _ = step(shared_state(), toy_batch(0))
    poison = toy_batch(1)
    poison["x"] = poison["x"].at[0, 0].set(jnp.nan)
    after, metrics = step(state, poison)
    for name in ("params", "batch_stats", "opt_state", "ema_params", "ema_batch_stats"):
        assert_equal(getattr(after, name), getattr(state, name))
    assert (int(after.step), int(after.num_skipped), int(after.num_skipped_in_row)) == (2, 1, 1)
    assert float(metrics.sums["loss"].count) == 0
    good, _ = step(after, toy_batch(2))
    assert (int(good.num_skipped), int(good.num_skipped_in_row)) == (1, 0)


def test_parameters_moments_and_averages_are_updated_in_place():
    width = 1000
    recipe = toy_recipe(width=width)
    state = jax.eval_shape(lambda key: create_state(recipe, key), jax.random.key(0))
    step = jax.jit(make_train_step(recipe), donate_argnums=0)
    program = step.lower(state, toy_batch(0)).compile().as_text()
    kernel = rf"f32\[{NUM_FEATURES},{width}\]"
    assert re.search(rf"{kernel}\S* parameter\(", program)
    assert not re.search(rf"{kernel}\S* copy\(", program)


def test_frozen_parameters_stay_and_have_no_moments():
    recipe = toy_recipe(frozen=("^hidden/",))
    step, state = jax.jit(make_train_step(recipe)), new_state(recipe)
    after, metrics = step(state, toy_batch(0))
    assert_equal(after.params["hidden"], state.params["hidden"])
    assert not np.array_equal(after.params["out"]["kernel"], state.params["out"]["kernel"])
    assert "hidden" not in optax.tree.get(after.opt_state, "mu")
    assert float(metrics.log["grad_norm"]) > 0


def test_a_freezing_rule_that_matches_nothing_is_an_error():
    with pytest.raises(ValueError, match="hiden"):
        new_state(toy_recipe(frozen=("^hiden/",)))


def test_the_plateaus_scale_multiplies_the_learning_rate():
    recipe = toy_recipe(plateau=ReduceLROnPlateau(factor=0.5, patience=0))
    step, state = jax.jit(make_train_step(recipe)), new_state(recipe)
    for metric in (1.0, 2.0):
        state = state.replace(plateau=recipe.plateau.update(state.plateau, metric))
    _, metrics = step(state, toy_batch(0))
    assert float(metrics.log["hparams/learning_rate"]) == pytest.approx(0.025)


def test_the_loss_scale_leaves_the_update_as_it_is():
    hparams = toy_hparams(dropout_rate=0.0)
    plain, scaled = toy_recipe(hparams=hparams), toy_recipe(hparams=hparams, loss_scale=LossScale())
    left, _ = jax.jit(make_train_step(plain))(new_state(plain), toy_batch(0))
    right, metrics = jax.jit(make_train_step(scaled))(new_state(scaled), toy_batch(0))
    for a, b in zip(jax.tree.leaves(left.params), jax.tree.leaves(right.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert float(metrics.log["loss"]) < 10  # the log has the unscaled loss


def test_an_overflow_backs_the_loss_scale_off():
    recipe = toy_recipe(loss_scale=LossScale())
    step, state = jax.jit(make_train_step(recipe)), new_state(recipe)
    poison = toy_batch(0)
    poison["x"] = poison["x"].at[0, 0].set(jnp.inf)
    after, _ = step(state, poison)
    assert float(after.loss_scale.scale) == float(state.loss_scale.scale) / 2
    assert_equal(after.params, state.params)


def test_a_loss_that_is_not_finite_may_leave_the_loss_scale_alone():
    recipe = toy_recipe(loss_scale=LossScale(), keep_scale_on_nonfinite_loss=True)
    poison = toy_batch(0)
    poison["x"] = poison["x"].at[0, 0].set(jnp.inf)
    state = new_state(recipe)
    after, _ = jax.jit(make_train_step(recipe))(state, poison)
    assert_equal(after.loss_scale, state.loss_scale)
    assert int(after.num_skipped) == 1


def test_ema_batch_stats_are_averaged_or_live():
    live = toy_recipe(ema_batch_stats=False)
    for averaged, step in ((True, shared_step), (False, jax.jit(make_train_step(live)))):
        state, _ = step(shared_state(), toy_batch(0))
        mean, ema_mean = state.batch_stats["norm"]["mean"], state.ema_batch_stats["norm"]["mean"]
        assert np.array_equal(mean, ema_mean) != averaged


def test_n_steps_under_scan_equal_n_calls():
    step = make_train_step(RECIPE)
    batches = [toy_batch(i) for i in range(3)]
    state = shared_state()
    scanned, _ = jax.jit(lambda s, b: jax.lax.scan(lambda s, b: (step(s, b)[0], None), s, b))(
        state, jax.tree.map(lambda *x: jnp.stack(x), *batches)
    )
    called = state
    for batch in batches:
        called, _ = shared_step(called, batch)
    for a, b in zip(jax.tree.leaves(scanned.params), jax.tree.leaves(called.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
