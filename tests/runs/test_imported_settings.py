"""Settings of PyTorch files that no run can go on with are refused, with file and field."""

import re

import pytest

from jaxrecipes.convert import load_torch

GROUP = ("optimizer_state", "param_groups", 0)


@pytest.fixture
def content(golden):
    return load_torch(golden.path / "ocec/original_checkpoint__baseline.pt")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ((*GROUP, "betas"), (2.0, 0.9), "'betas'[0] is 2.0; expected 0 <= value < 1"),
        ((*GROUP, "eps"), float("inf"), "'eps' is inf; expected a finite number"),
        (("train_config", "lr"), float("nan"), "'lr' is nan; expected"),
        (("train_config", "weight_decay"), -1, "'weight_decay' is -1; expected"),
        (("model_config", "dropout"), 1.5, "dropout is 1.5; expected 0 <= dropout < 1"),
        (("scheduler_state", "factor"), -1.0, "'factor' is -1.0; expected value > 0"),
        (("scheduler_state", "factor"), 1.5, "its setting plateau.factor is 1.5; expected"),
        (("scheduler_state", "threshold"), -1.0, "its setting plateau.threshold is -1.0; expected"),
        (("scheduler_state", "cooldown"), -1, "'cooldown' is -1; expected"),
        (("scheduler_state", "patience"), 2.5, "'patience' is 2.5 (float)"),
        (("scheduler_state", "_last_lr"), [float("nan")], "'_last_lr' is nan; expected a finite"),
        (("scheduler_state", "_last_lr"), [-1e-3], "'_last_lr' is -0.001; expected value >= 0"),
        (("scheduler_state", "best"), float("nan"), "'best' is nan; expected"),
    ],
)
def test_a_setting_out_of_bounds_is_named_with_its_file(content, imported, place, value, message):
    *path, key = place
    part = content
    for name in path:
        part = part[name]
    part[key] = value
    with pytest.raises(ValueError, match=rf"^FILE\.pt: .*{re.escape(message)}"):
        imported("ocec", content)
