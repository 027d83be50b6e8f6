import inspect
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipes import schedules

# float32 against PyTorch's float64; relative to the value itself, also where it is tiny.
RTOL = 4e-7
RTOL_POWER = 3e-6  # gamma ** step for up to a hundred steps

trace = jax.jit(lambda schedule, steps: jax.vmap(schedule)(steps))


def assert_traces_equal(schedule, expected, rtol=RTOL, steps=None):
    steps = np.arange(len(expected)) if steps is None else steps
    np.testing.assert_allclose(trace(schedule, steps), expected, rtol=rtol, atol=1e-12)


def cases(arrays):
    return range(1 + max(int(name.split("/")[0]) for name in arrays if name[0].isdigit()))


FROM_TORCH = {
    "CosineAnnealingLR": lambda lr, p: schedules.cosine(lr, steps=p["T_max"], end=p["eta_min"]),
    "StepLR": lambda lr, p: schedules.step_decay(lr, **p),
    "MultiStepLR": lambda lr, p: schedules.multistep(lr, **p),
    "ExponentialLR": lambda lr, p: schedules.exponential(lr, **p),
    "LinearLR": lambda lr, p: schedules.linear(
        lr * p["start_factor"], lr * p["end_factor"], steps=p["total_iters"]
    ),
    "LambdaWarmup": lambda lr, p: schedules.warmup(lr, warmup_steps=p["warmup_epochs"]),
    "hf_cosine_with_warmup": lambda lr, p: schedules.warmup_cosine(
        lr,
        warmup_steps=p["num_warmup_steps"],
        total_steps=p["num_training_steps"],
        num_cycles=p["num_cycles"],
    ),
    "hf_linear_with_warmup": lambda lr, p: schedules.warmup_linear(
        lr, warmup_steps=p["num_warmup_steps"], total_steps=p["num_training_steps"]
    ),
}


@pytest.mark.parametrize("kind", FROM_TORCH)
def test_equals_the_pytorch_scheduler_step_for_step(golden, kind):
    arrays = golden("torch_semantics/lr_schedules")
    found = [i for i in cases(arrays) if str(arrays[f"{i}/kind"]) == kind]
    assert found
    for i in found:
        arguments = golden.json(arrays[f"{i}/params_json"])
        schedule = FROM_TORCH[kind](arguments.pop("lr0"), arguments)
        rtol = RTOL_POWER if kind in ("ExponentialLR", "StepLR") else RTOL
        assert_traces_equal(schedule, arrays[f"{i}/lr"], rtol)


def test_cyclic_equals_torch_cyclic_lr_and_its_cycled_beta1(golden):
    arrays = golden("torch_semantics/cyclic_lr")
    for i in cases(arrays):
        down = int(arrays[f"{i}/step_size_down"])
        arguments = {
            "step_size_up": int(arrays[f"{i}/step_size_up"]),
            "step_size_down": None if down < 0 else down,
            "mode": str(arrays[f"{i}/mode"]),
            "gamma": float(arrays[f"{i}/gamma"]),
        }
        lr = schedules.cyclic(
            float(arrays[f"{i}/base_lr"]), float(arrays[f"{i}/max_lr"]), **arguments
        )
        assert_traces_equal(lr, arrays[f"{i}/lr"], RTOL_POWER)
        assert_traces_equal(schedules.cyclic(0.9, 0.8, **arguments), arrays[f"{i}/beta1"])


def test_cyclic_equals_torch_far_into_the_run(golden):
    arrays = golden("torch_semantics/cyclic_lr")
    schedule = schedules.cyclic(1e-5, 1e-3, step_size_up=2000)
    assert_traces_equal(schedule, arrays["seed_call/lr"], steps=arrays["seed_call/steps"])


def test_one_cycle_polynomial_and_join_equal_torch(golden):
    arrays = golden("torch_semantics/one_cycle_polynomial")
    for i in cases(arrays):
        kind, p = str(arrays[f"{i}/kind"]), golden.json(arrays[f"{i}/params_json"])
        if kind == "OneCycleLR":
            p["anneal"] = p.pop("anneal_strategy", "cos")
            schedule = schedules.one_cycle(p.pop("max_lr"), **p)
            p |= {"div_factor": 0.85 / 0.95, "final_div_factor": 1}
            beta1 = schedules.one_cycle(0.85, **p)
            assert_traces_equal(beta1, arrays[f"{i}/beta1"])
        elif kind == "PolynomialLR":
            schedule = schedules.polynomial(p["lr0"], steps=p["total_iters"], power=p["power"])
        else:
            lr = p["lr0"]
            schedule = schedules.join(
                [
                    schedules.linear(0.1 * lr, lr, steps=p["linear"]["total_iters"]),
                    schedules.cosine(lr, steps=p["cosine"]["T_max"], end=p["cosine"]["eta_min"]),
                    schedules.exponential(lr, gamma=p["exponential"]["gamma"]),
                ],
                p["milestones"],
            )
        # The boundaries of one-cycle's phases are fractions of steps, rounded to float32.
        assert_traces_equal(schedule, arrays[f"{i}/lr"], rtol=2e-6)


def test_joined_epoch_schedules_equal_the_face_recipe(golden):
    arrays = golden("face3d/schedules")
    names = sorted({name.rsplit("/", 1)[0] for name in arrays if "warmup_" in name})
    assert len(names) == 5
    for name in names:
        p = golden.json(arrays[f"{name}/args"])
        lr, warm, rest = p["lr"], p["warmup_epochs"], p["epochs"] - p["warmup_epochs"]
        if "cosine" in name:
            after = schedules.cosine(lr, steps=rest, end=p["eta_min"])
        else:
            after = schedules.step_decay(lr, step_size=max(1, rest // 3), gamma=p["gamma"])
        before = schedules.linear(p["warmup_lr"], lr, steps=max(1, warm))
        epochs = schedules.join([before, after], [warm])
        assert_traces_equal(epochs, arrays[f"{name}/lr_used"], rtol=1e-6)
        per_update = schedules.every(epochs, 7)
        assert_traces_equal(per_update, np.repeat(arrays[f"{name}/lr_used"], 7), rtol=1e-6)


EXAMPLES = [
    schedules.constant(0.5),
    schedules.linear(0.1, 1, steps=10),
    schedules.ramp(0, 0.3, start_step=5, end_step=20),
    schedules.warmup(2e-4, warmup_steps=5),
    schedules.warmup_linear(1e-3, warmup_steps=3, total_steps=30),
    schedules.cosine(1e-3, steps=20, end=1e-6),
    schedules.warmup_cosine(1e-3, warmup_steps=3, total_steps=30, num_cycles=2),
    schedules.step_decay(1e-3, step_size=7, gamma=0.5),
    schedules.multistep(1e-3, milestones=(5, 12)),
    schedules.exponential(1e-3, gamma=0.9),
    schedules.polynomial(1e-3, steps=20, power=2, end=1e-5),
    schedules.cyclic(1e-5, 1e-3, step_size_up=4, step_size_down=3, mode="exp_range", gamma=0.99),
    schedules.one_cycle(1e-3, total_steps=30, anneal="linear", three_phase=True),
    schedules.delayed(0.3, start_step=10),
    schedules.delayed(schedules.linear(0, 1, steps=5), start_step=10),
    schedules.join([0.1, schedules.cosine(1, steps=9), 0], [5, 14]),
    schedules.scale(schedules.cosine(1, steps=20), schedules.warmup(1, warmup_steps=4)),
    schedules.every(schedules.exponential(1, gamma=0.5), 6),
]


def ids(schedule):
    return schedule.kind.__name__


@pytest.mark.parametrize("schedule", EXAMPLES, ids=ids)
def test_repr_reads_back_as_the_same_schedule(schedule):
    again = schedules.parse(repr(schedule))
    assert again == schedule
    assert hash(again) == hash(schedule)
    assert pickle.loads(pickle.dumps(schedule)) == schedule


@pytest.mark.parametrize("schedule", EXAMPLES, ids=ids)
def test_value_is_a_float32_scalar_traced_or_not(schedule):
    traced = jax.jit(lambda s, t: s(t))(schedule, 7)
    chex.assert_shape(traced, ())
    assert traced.dtype == jnp.float32
    np.testing.assert_allclose(traced, schedule(7), rtol=1e-6)


@pytest.mark.parametrize("schedule", EXAMPLES, ids=ids)
def test_stacked_numbers_give_each_trial_its_own_schedule(schedule):
    smaller = jax.tree.map(lambda x: x * 0.5, schedule)
    stacked = jax.tree.map(lambda *x: jnp.stack(jnp.float32(x)), schedule, smaller)
    steps = jnp.arange(0, 40, 3)
    both = jax.jit(jax.vmap(lambda s: jax.vmap(s)(steps)))(stacked)
    np.testing.assert_allclose(both[0], trace(schedule, steps), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(both[1], trace(smaller, steps), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("schedule", EXAMPLES, ids=ids)
def test_gradient_by_the_numbers_is_finite_everywhere(schedule):
    total = jax.jit(jax.grad(lambda s: jax.vmap(s)(jnp.arange(40)).sum()))
    grads = total(jax.tree.map(jnp.float32, schedule))
    assert all(np.isfinite(g) for g in jax.tree.leaves(grads))
    assert any(g != 0 for g in jax.tree.leaves(grads))


def test_gradient_of_a_linear_schedule_by_its_end_is_the_share_passed():
    grad = jax.grad(lambda s: s(3))(schedules.linear(0.0, 1.0, steps=10))
    assert float(grad.numbers["end"]) == pytest.approx(0.3)


def test_a_changed_number_does_not_retrace():
    value = jax.jit(chex.assert_max_traces(lambda s, t: s(t), n=1))
    for peak, steps in ((1e-3, 100), (3e-4, 50), (1, 7)):
        value(schedules.cosine(peak, steps=steps), 5)


def test_step_decay_drops_exactly_at_multiples():
    for size in (3, 7, 10, 49, 93):
        steps = np.arange(100 * size)
        drops = trace(schedules.step_decay(1.0, step_size=size, gamma=0.5), steps)
        np.testing.assert_array_equal(drops, 0.5 ** (steps // size))


def test_delayed_is_exactly_zero_and_then_exactly_the_target():
    values = trace(schedules.delayed(0.3, start_step=4), np.arange(8))
    np.testing.assert_array_equal(values, np.float32([0, 0, 0, 0, 0.3, 0.3, 0.3, 0.3]))


def test_ramp_is_exact_at_both_ends():
    values = trace(schedules.ramp(0.1, 0.3, start_step=10, end_step=20), np.arange(40))
    assert (values[:11] == np.float32(0.1)).all()
    assert (values[20:] == np.float32(0.3)).all()
    assert (np.diff(values[10:21]) > 0).all()


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 50), st.integers(0, 200), st.floats(1e-6, 10))
def test_every_is_a_staircase_of_the_epoch(steps_per_epoch, step, value):
    epochs = schedules.linear(value, 0.0, steps=10)
    staircase = schedules.every(epochs, steps_per_epoch)
    assert staircase(step) == epochs(step // steps_per_epoch)


def test_any_optax_schedule_is_accepted_and_gets_integer_steps():
    theirs = optax.warmup_cosine_decay_schedule(0.0, 1.0, 5, 20)
    values = trace(schedules.as_schedule(theirs), np.arange(25))
    np.testing.assert_allclose(values, [theirs(t) for t in range(25)], atol=1e-6)
    table = jnp.arange(10.0)
    assert schedules.delayed(lambda step: table[step], start_step=3)(8) == 5.0


def test_evaluate_gives_every_hyperparameter_at_the_step():
    hparams = {
        "dropout_rate": schedules.delayed(0.3, start_step=2),
        "weight_decay": 0.01,
        "learning_rate": lambda step: 1.0 / (step + 1),
        "ema_decay": jnp.float32(0.9),
    }
    values = jax.jit(lambda step: schedules.evaluate(hparams, step))(3)
    expected = {"dropout_rate": 0.3, "weight_decay": 0.01, "learning_rate": 0.25, "ema_decay": 0.9}
    assert {name: pytest.approx(v) for name, v in expected.items()} == values
    assert {v.dtype for v in values.values()} == {jnp.dtype("float32")}


def test_equal_kinds_with_other_numbers_or_options_differ():
    assert schedules.cosine(1, steps=5) != schedules.cosine(2, steps=5)
    assert schedules.cyclic(0, 1) != schedules.cyclic(0, 1, mode="triangular2")
    assert schedules.constant(1) != 1
    assert schedules.constant(1) != schedules.delayed(1, start_step=0)


def test_signature_and_help_show_what_the_caller_passes():
    assert list(inspect.signature(schedules.cosine).parameters) == ["peak", "steps", "end"]
    assert "CosineAnnealingLR" in schedules.cosine.__doc__


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: schedules.cosine(1e-3, steps=0), "steps=0"),
        (lambda: schedules.cyclic(0, 1, step_size_up=-3), "step_size_up=-3"),
        (lambda: schedules.cyclic(0, 1, mode="square"), "'square'.*'triangular'"),
        (lambda: schedules.one_cycle(1, total_steps=9, three_phase=1), "three_phase=1"),
        (lambda: schedules.as_schedule("0.5"), "schedules.parse"),
        (lambda: schedules.linear("0", 1, steps=3), "start='0'"),
    ],
)
def test_bad_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match="warmup_step"):
        schedules.warmup_cosine(1e-3, warmup_step=5, total_steps=10)
