import json

import numpy as np
import pytest

from jaxrecipes.train.build import learning_rate_schedule
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
