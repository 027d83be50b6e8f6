"""Nothing that is NaN or infinite is kept by a step, saved by a run or imported."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_recipe import toy_arrays, toy_batch, toy_config, toy_fit, toy_hparams, toy_recipe

from jaxrecipes import schedules
from jaxrecipes.precision import first_nonfinite
from jaxrecipes.runs.torch_runs import ImportedRun, save_run
from jaxrecipes.schedules import as_schedule
from jaxrecipes.train import create_state, make_train_step
from jaxrecipes.train.nonfinite import TrainingDivergedError
from jaxrecipes.train.outcome import end_epoch
from jaxrecipes.train.step import looked_at

_HPARAMS = toy_hparams(b1=0.9, b2=0.999, eps=1e-8)
RECIPE = toy_recipe(hparams=_HPARAMS)
_KEPT = ("params", "batch_stats", "opt_state", "ema_params", "ema_batch_stats")


@functools.cache
def compiled():
    return jax.jit(make_train_step(RECIPE))


def started():
    state = jax.jit(lambda key: create_state(RECIPE, key))(jax.random.key(0))
    return compiled()(jax.tree.map(jnp.copy, state), toy_batch(0))[0]


def assert_skipped(before, after):
    assert (int(after.num_skipped), int(after.num_skipped_in_row)) == (1, 1)
    for name in _KEPT:
        jax.tree.map(np.testing.assert_array_equal, getattr(before, name), getattr(after, name))


def stopping_early():
    """The toy's config, but that it gives up after three skipped steps."""
    config = toy_config()
    return dataclasses.replace(config, loop=dataclasses.replace(config.loop, max_skipped_in_row=3))


@pytest.mark.parametrize(
    ("name", "value", "culprit"),
    [
        ("b1", 1.0, r"params/hidden/kernel"),
        ("learning_rate", np.inf, r"params/hidden/kernel"),
        ("eps", np.nan, r"params/hidden/kernel"),
        ("weight_decay", np.inf, r"params/hidden/kernel"),
        ("ema_decay", np.nan, r"ema_decay"),
    ],
)
def test_a_hyperparameter_that_would_spoil_the_weights_skips_the_update(name, value, culprit):
    state = compiled()(jax.tree.map(jnp.copy, started()), toy_batch(1))[0]
    spoilt = state.replace(hparams=state.hparams | {name: as_schedule(jnp.float32(value))})
    # A bias correction by 1 - b**count is 0 from the first update on, whatever the moments are.
    after, metrics = compiled()(spoilt, toy_batch(2))
    assert_skipped(state, after)
    assert float(metrics.sums["loss"].count) == 0
    found = looked_at(RECIPE, state)[int(metrics.log["first_nonfinite"])]
    assert re.fullmatch(culprit, found)
    good, metrics = compiled()(after.replace(hparams=state.hparams), toy_batch(3))
    assert (int(good.num_skipped), int(metrics.log["first_nonfinite"])) == (1, -1)


def test_a_number_whose_own_update_is_not_finite_stays_as_it_was():
    """Under an eps of 0 a weight that has never had a gradient is updated by 0 / 0."""
    state, batch = create_state(RECIPE, jax.random.key(0)), toy_batch(0)
    no_decay = {"eps": as_schedule(jnp.float32(0)), "weight_decay": as_schedule(jnp.float32(0))}
    state = state.replace(hparams=state.hparams | no_decay)
    batch["x"] = batch["x"].at[:, 2].set(0.0)
    after, _ = compiled()(state, batch)
    before, kernel = state.params["hidden"]["kernel"], after.params["hidden"]["kernel"]
    np.testing.assert_array_equal(kernel[2], before[2])
    assert np.all(kernel[0] != before[0])
    assert first_nonfinite([getattr(after, name) for name in _KEPT]) is None
    assert int(after.num_skipped) == 0


def test_a_schedule_that_is_infinite_for_one_step_costs_that_step_alone():
    rate = schedules.join(
        (as_schedule(0.05), as_schedule(np.inf), as_schedule(0.05)), boundaries=(1, 2)
    )
    recipe = dataclasses.replace(RECIPE, hparams=_HPARAMS | {"learning_rate": rate})
    state = jax.jit(lambda key: create_state(recipe, key))(jax.random.key(0))
    step = jax.jit(make_train_step(recipe))
    for i in range(3):
        state, _ = step(state, toy_batch(i))
        assert first_nonfinite([getattr(state, name) for name in _KEPT]) is None
    assert (int(state.num_skipped), int(state.num_skipped_in_row)) == (1, 0)


def test_a_feature_that_overflows_the_batch_statistics_skips_the_update():
    state, batch = started(), toy_batch(1)
    batch["x"] = batch["x"].at[3, 0].set(1e30)
    after, metrics = compiled()(state, batch)
    assert np.isfinite(metrics.log["loss"])
    assert_skipped(state, after)
    found = looked_at(RECIPE, state)[int(metrics.log["first_nonfinite"])]
    assert found == "batch_stats/norm/var"


def test_a_run_under_b1_of_1_stops_names_the_hyperparameters_and_saves_nothing(tmp_path):
    recipe = toy_recipe(hparams=toy_hparams(b1=1.0, b2=0.999, eps=1e-8))
    config = toy_config()
    config = dataclasses.replace(
        config, loop=dataclasses.replace(config.loop, max_skipped_in_row=3)
    )
    with pytest.raises(TrainingDivergedError) as raised:
        toy_fit(tmp_path, recipe, config=config)
    message = str(raised.value)
    assert "would have made params/hidden/kernel infinite or NaN" in message
    assert "learning_rate 0.05, weight_decay 0.01, b1 1, b2 0.999" in message
    assert "There is no checkpoint yet" in message
    assert not list((tmp_path / "checkpoints").glob("*"))


def test_an_infinite_hyperparameter_is_named_and_the_good_checkpoint_is_kept(tmp_path):
    rate = schedules.join((as_schedule(0.05), as_schedule(np.inf)), boundaries=(8,))
    recipe = toy_recipe(hparams=toy_hparams(learning_rate=rate))
    config = toy_config()
    config = dataclasses.replace(
        config, loop=dataclasses.replace(config.loop, max_skipped_in_row=3)
    )
    with pytest.raises(
        TrainingDivergedError,
        match=r"not finite: learning_rate inf.*newest checkpoint, of step 8, is finite",
    ):
        toy_fit(tmp_path, recipe, config=config)


def test_a_state_with_an_infinity_is_not_saved_and_prunes_nothing(tmp_path, monkeypatch):
    def spoilt(run, position, programs):
        if position.step == 24:
            mu = position.state.opt_state[0].mu
            mu["out"]["bias"] = mu["out"]["bias"].at[0].set(jnp.inf)
        return end_epoch(run, position, programs)

    monkeypatch.setattr("jaxrecipes.train.fit.end_epoch", spoilt)
    with pytest.raises(
        TrainingDivergedError,
        match=r"opt_state/0/mu/out/bias holds a NaN.* after step 24.*of step 16, is finite",
    ):
        toy_fit(tmp_path)
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} >= {"8", "16"}
    assert not (tmp_path / "checkpoints" / "24").exists()


def test_a_run_does_not_start_from_weights_that_are_not_finite(tmp_path):
    def pretrained(params, batch_stats):
        del params, batch_stats
        return {"out": {"bias": np.asarray([np.nan], np.float32)}}, {}

    with pytest.raises(ValueError, match=r"starts from: (ema_)?params/out/bias holds a NaN"):
        toy_fit(tmp_path, toy_recipe(pretrained=pretrained))


def test_first_nonfinite_reads_host_and_device_arrays_and_leaves_integers_alone():
    tree = {"a": np.arange(3), "b": jnp.ones(2, jnp.bfloat16), "c": {"d": np.float32(1)}}
    assert first_nonfinite(tree) is None
    tree["b"] = tree["b"].at[1].set(jnp.inf)
    assert first_nonfinite(tree | {"c": {"d": np.float64(np.nan)}}) == "b"
    assert first_nonfinite({"c": {"d": np.float64(np.nan)}}) == "c/d"
    assert toy_arrays()["label"].dtype == np.int32


def test_an_imported_file_with_a_nan_in_its_moments_becomes_no_run(tmp_path):
    state = create_state(RECIPE, jax.random.key(0))
    nu = state.opt_state[0].nu
    nu["hidden"]["kernel"] = nu["hidden"]["kernel"].at[1, 2].set(jnp.nan)
    run = ImportedRun(tmp_path / "FILE.pt", toy_config(), RECIPE, state, 1, 8)
    with pytest.raises(ValueError, match=r"file holds: opt_state/0/nu/hidden/kernel holds a NaN"):
        save_run(tmp_path / "run", run)
    assert not (tmp_path / "run").exists()
