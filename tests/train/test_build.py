import json

import numpy as np
import pytest

from jaxrecipes.train.build import build_hparams, learning_rate_schedule
from jaxrecipes.train.config import LrScheduleConfig, RunConfig

STEPS_PER_EPOCH = 3


def rates(epochs, rate, **lr_schedule):
    config = RunConfig(epochs=epochs, lr_schedule=LrScheduleConfig(**lr_schedule))
    schedule = learning_rate_schedule(config, rate, STEPS_PER_EPOCH)
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
    lr = LrScheduleConfig(kind=kind, warmup_ratio=(warmup + 0.5) / steps)
    schedule = learning_rate_schedule(RunConfig(steps=steps, lr_schedule=lr), 1.0, STEPS_PER_EPOCH)
    got = np.array([schedule(step) for step in range(steps + 1)])
    want = golden("clip_iqa/schedules")[f"{kind}/{steps}_{warmup}"][: steps + 1]
    np.testing.assert_allclose(got, want, atol=2e-7)


def test_steps_and_cycles_begin_where_the_warmup_ratio_ends(golden):
    arrays = golden("clip_iqa/schedules")

    def after_warmup(**lr_schedule):
        lr = LrScheduleConfig(warmup_ratio=0.1, **lr_schedule)
        config = RunConfig(steps=30, lr_schedule=lr)
        schedule = learning_rate_schedule(config, 1.0, 7)
        assert [float(schedule(step)) for step in range(3)] == pytest.approx([0, 1 / 3, 2 / 3])
        return np.array([schedule(step) for step in range(3, 30)])

    got = after_warmup(kind="step", period_epochs=1, factor=0.5)
    np.testing.assert_allclose(got, arrays["step_lr/size7_gamma0.5"][:27], rtol=1e-6)
    got = after_warmup(kind="cyclic", max_learning_rate=2.0, step_size_up=5)
    np.testing.assert_allclose(got[:11], 1 + np.abs((np.arange(11) + 5) % 10 - 5) / 5, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "cosine", "warmup_ratio": 1.0}, "wants 0 <= warmup_ratio < 1"),
        ({"kind": "plateau", "warmup_ratio": 0.1}, "is for the kinds constant, cosine"),
        ({"kind": "cosine", "warmup_ratio": 0.1, "warmup_epochs": 1}, "takes the place"),
        ({"kind": "linear"}, "needs a warmup_ratio"),
    ],
)
def test_lr_schedule_options_that_exclude_each_other_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        LrScheduleConfig(**fields)


def test_a_learning_rate_that_restarts_is_that_of_a_run_of_each_stage():
    lr = LrScheduleConfig(kind="cosine", warmup_ratio=0.25)
    sizes = {"batch_size": 1, "steps_per_epoch": STEPS_PER_EPOCH}

    def learning_rates(steps, restarts=()):
        config = RunConfig(steps=steps, lr_schedule=lr)
        schedule = build_hparams(config, {}, **sizes, restarts=restarts)["learning_rate"]
        return [float(schedule(step)) for step in range(steps)]

    got = learning_rates(30, [0, 8, 20, 30, 40])
    want = learning_rates(8) + learning_rates(12) + learning_rates(10)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert learning_rates(30, [0]) == learning_rates(30)
