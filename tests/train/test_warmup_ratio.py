"""Learning rates that move every step, with a warm-up that is a share of the run."""

import numpy as np
import pytest

from jaxrecipes.config import from_dict
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.hparams import learning_rate_schedule


def rates(kind, total, *, ratio, rate=1.0, steps_per_epoch=1, **fields):
    lr = {"kind": kind, "warmup_ratio": ratio, **fields}
    stored = {"steps": total, "optim": {"learning_rate": rate}, "lr_schedule": lr}
    schedule = learning_rate_schedule(from_dict(RunConfig, stored), steps_per_epoch)
    return np.array([schedule(step) for step in range(total + 1)])


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
@pytest.mark.parametrize(("total", "warmup"), [(20, 4), (10, 0), (7, 1)])
def test_equals_hugging_faces_schedules_up_to_the_end_of_the_run(golden, kind, total, warmup):
    want = golden("clip_iqa/schedules")[f"{kind}/{total}_{warmup}"][: total + 1]
    got = rates(kind, total, ratio=(warmup + 0.5) / total if warmup else 0.0)
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_steps_fall_thrice_in_the_run_after_the_warm_up():
    got = rates("step", 12, ratio=0.25, factor=0.1, steps_per_epoch=2)
    np.testing.assert_allclose(got[:8], [0, 1 / 3, 2 / 3, 1, 1, 1, 1, 0.1], atol=1e-6)


def test_cycles_begin_after_the_warm_up():
    got = rates("cyclic", 8, ratio=0.25, max_learning_rate=3.0, step_size_up=2)
    np.testing.assert_allclose(got, [0, 0.5, 1, 2, 3, 2, 1, 2, 3], atol=1e-6)
