import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipes.plateau import EarlyStopping, ReduceLROnPlateau

NUMBERS = ("factor", "patience", "threshold", "cooldown", "min_lr", "eps")


@jax.jit
def run(plateau, learning_rate, metrics):
    """The states after each metric."""

    def update(state, metric):
        state = plateau.update(state, metric)
        return state, state

    return jax.lax.scan(update, plateau.init(learning_rate), metrics)[1]


def assert_rates_equal(actual, expected):
    # A factor of 0.1 for 60 epochs ends below the smallest normal float32.
    np.testing.assert_allclose(actual, expected, rtol=3e-6, atol=1e-37)


@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("part", ["a", "b"])
def test_every_decision_equals_torch_in_one_population(golden, part, mode, threshold_mode):
    arrays = golden(f"torch_semantics/reduce_lr_on_plateau_{part}")
    rows = (arrays["mode_max"] == (mode == "max")) & (
        arrays["threshold_abs"] == (threshold_mode == "abs")
    )
    assert rows.sum() > 50
    population = ReduceLROnPlateau(
        mode=mode,
        threshold_mode=threshold_mode,
        **{name: jnp.asarray(arrays[name][rows]) for name in NUMBERS},
    )
    states = jax.vmap(run)(population, arrays["lr0"][rows], arrays["metrics"][rows])
    np.testing.assert_array_equal(states.num_bad_epochs, arrays["num_bad_epochs"][rows])
    np.testing.assert_array_equal(states.cooldown_counter, arrays["cooldown_counter"][rows])
    assert_rates_equal(states.learning_rate, arrays["lr"][rows][:, 1:])


def test_python_numbers_and_single_updates_give_the_same_as_the_population(golden):
    arrays = golden("torch_semantics/reduce_lr_on_plateau_a")
    for i in range(12):  # the three settings of the OCEC presets
        plateau = ReduceLROnPlateau(
            mode="max" if arrays["mode_max"][i] else "min",
            threshold_mode="abs" if arrays["threshold_abs"][i] else "rel",
            **{name: arrays[name][i].item() for name in NUMBERS},
        )
        state = plateau.init(arrays["lr0"][i].item())
        update = jax.jit(plateau.update)
        rates, bad = [], []
        for metric in arrays["metrics"][i].tolist():
            state = update(state, metric)
            rates.append(float(state.learning_rate))
            bad.append(int(state.num_bad_epochs))
        assert_rates_equal(rates, arrays["lr"][i, 1:])
        assert bad == arrays["num_bad_epochs"][i].tolist()


def test_warmup_then_plateau_equals_torch(golden):
    arrays = golden("torch_semantics/warmup_then_plateau")
    for i, metrics in enumerate(arrays["metrics"][:12]):
        warm = int(arrays["warmup_epochs"][i])
        base = arrays["lr0"][i]
        plateau = ReduceLROnPlateau(
            factor=float(arrays["factor"][i]), patience=int(arrays["patience"][i])
        )
        after = run(plateau, base, metrics[warm:])
        assert_rates_equal(arrays["lr_recorded"][i, warm:], after.learning_rate)
        used = np.append(base * np.arange(1, warm + 1) / max(warm, 1), base)
        used = np.append(used, base * np.asarray(after.scale))[: len(metrics)]
        assert_rates_equal(used, arrays["lr_used"][i])


def test_face_recipe_traces_equal_torch(golden):
    arrays = golden("face3d/schedules")
    names = sorted({n.split("/")[1] for n in arrays if n.startswith("plateau/")})
    assert len(names) == 13
    for name in names:
        trace = {n: arrays[f"plateau/{name}/{n}"] for n in ("metric", "lr_after", "best")}
        settings = golden.json(arrays[f"plateau/{name}/kwargs"])
        learning_rate = settings.pop("lr")
        states = run(ReduceLROnPlateau(**settings), learning_rate, trace["metric"])
        assert_rates_equal(states.learning_rate, trace["lr_after"])
        if name == "universal_tiny_improvements":
            continue  # gains of 2.5e-9 beyond the threshold, which float32 does not resolve
        np.testing.assert_array_equal(states.best, trace["best"].astype(np.float32))
        bad = arrays[f"plateau/{name}/num_bad_epochs"]
        np.testing.assert_array_equal(states.num_bad_epochs, bad)


def test_scale_is_exactly_one_until_the_first_reduction_and_safe_for_rate_zero():
    plateau = ReduceLROnPlateau(patience=1, factor=0.5)
    states = run(plateau, 3e-4, jnp.ones(5))
    np.testing.assert_array_equal(states.scale, [1, 1, 0.5, 0.5, 0.25])
    np.testing.assert_array_equal(run(plateau, 0.0, jnp.ones(5)).scale, np.ones(5))


def test_changing_numbers_and_metrics_do_not_retrace():
    update = jax.jit(chex.assert_max_traces(lambda p, s, m: p.update(s, m), n=1))
    state = ReduceLROnPlateau().init(1e-3)
    for patience, metric in ((2, 0.5), (5, float("nan")), (1, 0.1)):
        state = update(ReduceLROnPlateau(patience=patience), state, metric)


def test_state_has_no_two_leaves_in_one_buffer():
    state = jax.jit(lambda s: s, donate_argnums=0)(ReduceLROnPlateau().init(jnp.float32(1e-3)))
    assert float(state.scale) == 1


def test_description_is_hashable_and_static():
    assert hash(ReduceLROnPlateau(patience=3)) == hash(ReduceLROnPlateau(patience=3))
    step = jax.jit(lambda plateau, s, m: plateau.update(s, m), static_argnums=0)
    plateau = ReduceLROnPlateau(patience=0)
    assert float(step(plateau, plateau.init(1.0), jnp.inf).learning_rate) == pytest.approx(0.1)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=12), st.integers(0, 3))
def test_mode_max_is_mode_min_of_the_negated_metric(values, patience):
    metrics = jnp.zeros(12).at[: len(values)].set(jnp.float32(jnp.array(values)) / 4)
    low = run(ReduceLROnPlateau(mode="min", patience=patience, threshold_mode="abs"), 1.0, metrics)
    high = run(
        ReduceLROnPlateau(mode="max", patience=patience, threshold_mode="abs"), 1.0, -metrics
    )
    np.testing.assert_array_equal(low.learning_rate, high.learning_rate)
    np.testing.assert_array_equal(low.best, -high.best)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "low"}, "mode='low'"),
        ({"threshold_mode": "relative"}, "'relative'"),
        ({"factor": 1.0}, "expected 0 < factor < 1"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        ReduceLROnPlateau(**settings)


def early(metrics, **settings):
    stopping = EarlyStopping(**settings)
    state, states = stopping.init(), []
    for metric in metrics:
        state = jax.jit(lambda p, s, m: p.update(s, m))(stopping, state, metric)
        states.append(state)
    return states


def test_early_stopping_stops_at_the_patience_and_counts_nan_as_bad():
    states = early([1.0, 0.9, float("nan"), 0.95, 0.9], patience=3)
    assert [int(s.num_bad_epochs) for s in states] == [0, 0, 1, 2, 3]
    assert [bool(s.should_stop) for s in states] == [False] * 4 + [True]


def test_gains_below_min_delta_add_up_against_the_last_accepted_best():
    states = early([1.0, 0.96, 0.92, 0.88, 0.84], patience=9, min_delta=0.1)
    assert [int(s.num_bad_epochs) for s in states] == [0, 1, 2, 0, 1]
    assert float(states[-1].best) == np.float32(0.88)


def test_a_gain_of_exactly_min_delta_is_none():
    states = early([0.3, 0.2], patience=9, min_delta=0.1)
    assert int(states[-1].num_bad_epochs) == 1
    assert int(early([0.3, 0.3 - 1e-6], patience=9)[-1].num_bad_epochs) == 0


def test_early_stopping_for_a_rising_metric_and_patience_zero():
    assert bool(early([0.5, 0.4, 0.3], mode="max", patience=2)[-1].should_stop)
    assert not any(s.should_stop for s in early([0.5] * 5, patience=0))


def test_early_stopping_of_a_population_under_vmap():
    population = EarlyStopping(patience=jnp.array([1, 3]), min_delta=jnp.array([0.0, 0.5]))
    state = jax.vmap(lambda p: p.init())(population)
    for metric in (1.0, 1.0):
        state = jax.vmap(lambda p, s, m: p.update(s, m))(population, state, jnp.full(2, metric))
    assert state.should_stop.tolist() == [True, False]
    with pytest.raises(ValueError, match="mode='low'"):
        EarlyStopping(mode="low")
