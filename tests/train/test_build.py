import json

import numpy as np
import pytest

from jaxrecipes.config import from_dict
from jaxrecipes.schedules import cosine
from jaxrecipes.train.config import OptimConfig, RunConfig
from jaxrecipes.train.hparams import learning_rate_schedule

STEPS_PER_EPOCH = 3


def stored(rate=1.0, *, lr_schedule, **fields):
    """The config of a run that version 0.1 stored, as it is read now."""
    optim = {"learning_rate": rate}
    return from_dict(RunConfig, fields | {"optim": optim, "lr_schedule": lr_schedule})


def rates(epochs, rate, **lr_schedule):
    config = stored(rate, epochs=epochs, lr_schedule=lr_schedule)
    schedule = learning_rate_schedule(config, STEPS_PER_EPOCH)
    return np.array([schedule(epoch * STEPS_PER_EPOCH) for epoch in range(epochs)])


@pytest.mark.parametrize("case", ["head_defaults", "doc_basic", "no_warmup"])
def test_warmup_from_a_rate_and_cosine_equal_pytorchs(golden, case):
    arrays = golden("face3d/schedules")
    prefix = f"epoch_schedule/warmup_cosine/{case}"
    args = json.loads(str(arrays[f"{prefix}/args"]))
    got = rates(
        args["epochs"],
        args["lr"],
        kind="cosine",
        warmup_epochs=args["warmup_epochs"],
        warmup_learning_rate=args["warmup_lr"],
        min_learning_rate=args["eta_min"],
    )
    np.testing.assert_allclose(got, arrays[f"{prefix}/lr_used"], rtol=2e-6, atol=1e-11)


def test_warmup_from_a_rate_and_steps_equal_pytorchs(golden):
    arrays = golden("face3d/schedules")
    got = rates(
        70,
        1e-3,
        kind="step",
        warmup_epochs=10,
        warmup_learning_rate=1e-6,
        period_epochs=(70 - 10) // 3,
        factor=0.5,
    )
    want = arrays["epoch_schedule/warmup_step/head/lr_used"]
    np.testing.assert_allclose(got, want, rtol=2e-6)


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
@pytest.mark.parametrize(("steps", "warmup"), [(20, 4), (100, 5), (10, 0), (1, 0), (7, 1)])
def test_a_warmup_ratio_moves_every_step_as_hugging_faces_schedulers(golden, kind, steps, warmup):
    optim = OptimConfig(learning_rate=1.0, schedule=kind, warmup_ratio=(warmup + 0.5) / steps)
    schedule = learning_rate_schedule(RunConfig(steps=steps, optim=optim), STEPS_PER_EPOCH)
    got = np.array([schedule(step) for step in range(steps + 1)])
    want = golden("clip_iqa/schedules")[f"{kind}/{steps}_{warmup}"][: steps + 1]
    np.testing.assert_allclose(got, want, atol=2e-7)


def test_steps_and_cycles_begin_where_the_warmup_ratio_ends(golden):
    arrays = golden("clip_iqa/schedules")

    def after_warmup(**lr_schedule):
        config = stored(steps=30, lr_schedule={"warmup_ratio": 0.1, **lr_schedule})
        schedule = learning_rate_schedule(config, 7)
        assert [float(schedule(step)) for step in range(3)] == pytest.approx([0, 1 / 3, 2 / 3])
        return np.array([schedule(step) for step in range(3, 30)])

    got = after_warmup(kind="step", period_epochs=1, factor=0.5)
    np.testing.assert_allclose(got, arrays["step_lr/size7_gamma0.5"][:27], rtol=1e-6)
    got = after_warmup(kind="cyclic", max_learning_rate=2.0, step_size_up=5)
    np.testing.assert_allclose(got[:11], 1 + np.abs((np.arange(11) + 5) % 10 - 5) / 5, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schedule": "cosine", "warmup_ratio": 1.0}, "expected 0 <= warmup_ratio < 1"),
        ({"schedule": "plateau", "warmup_ratio": 0.1}, "is for the schedules constant, cosine"),
        ({"schedule": "cosine", "warmup_ratio": 0.1, "warmup_epochs": 1}, "place of warmup_epochs"),
        ({"schedule": "linear"}, "needs a warmup_ratio"),
        ({"schedule": "cosin"}, "unknown optim.schedule 'cosin'; did you mean 'cosine'"),
        ({"schedule": "cosine(rat, steps=run)"}, "optim.schedule: .*unknown"),
        ({"schedule": "cosine(rate, steps=run)", "warmup_epochs": 2}, "say the warm-up in"),
    ],
)
def test_options_of_the_schedule_that_exclude_each_other_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        OptimConfig(**fields)


def test_a_schedule_may_be_given_as_a_text_in_either_field():
    for fields in (
        {"learning_rate": "cosine(0.5, steps=run)"},
        {"learning_rate": 0.5, "schedule": "cosine(rate, steps=run)"},
    ):
        config = RunConfig(steps=30, optim=OptimConfig(**fields))
        assert learning_rate_schedule(config, 7) == cosine(0.5, steps=30.0)


def test_a_schedule_object_becomes_its_text():
    optim = OptimConfig(learning_rate=cosine(0.5, steps=30))
    assert optim == OptimConfig(learning_rate="cosine(0.5, steps=30)")


def test_a_learning_rate_that_restarts_is_that_of_a_run_of_each_stage():
    optim = OptimConfig(learning_rate=1e-3, schedule="cosine", warmup_ratio=0.25)

    def learning_rates(steps, restarts=()):
        config = RunConfig(steps=steps, optim=optim)
        schedule = learning_rate_schedule(config, STEPS_PER_EPOCH, restarts=restarts)
        return [float(schedule(step)) for step in range(steps)]

    got = learning_rates(30, [0, 8, 20, 30, 40])
    want = learning_rates(8) + learning_rates(12) + learning_rates(10)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert learning_rates(30, [0]) == learning_rates(30)
