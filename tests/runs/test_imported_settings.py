"""Settings of PyTorch files that no run can go on with are refused, with file and field."""

import pathlib
import re
from types import SimpleNamespace

import pytest

from jaxrecipes.convert.torch_optim import AdamState, PlateauNumbers
from jaxrecipes.recipes.ocec import original as torch_checkpoint
from jaxrecipes.recipes.ocec.network import OcecConfig
from jaxrecipes.recipes.ocec.original_weights import OcecCheckpoint
from jaxrecipes.runs.torch_runs import with_plateau

SETTINGS = {
    "mode": "min",
    "factor": 0.5,
    "patience": 2,
    "threshold": 1e-4,
    "threshold_mode": "rel",
    "cooldown": 0,
    "min_lr": 0.0,
    "eps": 1e-8,
}


def plateau(*, learning_rate=1e-3, best=0.5, **settings):
    return PlateauNumbers(
        settings=SETTINGS | settings,
        learning_rate=learning_rate,
        best=best,
        num_bad_epochs=0,
        cooldown_counter=0,
        last_epoch=1,
    )


def checkpoint(*, hyperparams=None, scheduler=None, train_config=None, dropout=0.3):
    return OcecCheckpoint(
        config=OcecConfig(dropout=dropout),
        params={},
        batch_stats={},
        optimizer=AdamState({}, {}, 1, hyperparams or {}),
        plateau=scheduler,
        epoch=1,
        image_size=(24, 40),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        train_config=train_config or {},
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hyperparams": {"b1": 2.0}}, "optim.b1 is 2.0; expected 0 <= b1 < 1"),
        ({"hyperparams": {"eps": float("inf")}}, "optim.eps is inf; expected a finite number"),
        ({"train_config": {"lr": float("nan")}}, "lr' is nan; expected"),
        ({"train_config": {"weight_decay": -1}}, "weight_decay' is -1; expected"),
        ({"scheduler": plateau(factor=-1.0)}, "plateau.factor is -1.0; expected 0 < factor"),
        ({"scheduler": plateau(cooldown=-1)}, "plateau.cooldown_epochs is -1; expected"),
        ({"scheduler": plateau(patience=2.5)}, "plateau.patience_epochs is 2.5 (float)"),
    ],
)
def test_a_setting_out_of_bounds_is_named_with_its_file(monkeypatch, tmp_path, fields, message):
    monkeypatch.setattr(
        torch_checkpoint, "read_checkpoint", lambda *args, **options: checkpoint(**fields)
    )
    with pytest.raises(
        ValueError, match=rf"old.pt: (its setting |train_config '){re.escape(message)}"
    ):
        torch_checkpoint.import_torch(pathlib.Path("old.pt"), tmp_path / "run")


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (plateau(learning_rate=float("nan")), "learning_rate is nan; expected a finite number"),
        (plateau(learning_rate=-1e-3), "learning_rate is -0.001; expected learning_rate >= 0"),
        (plateau(best=float("nan")), "best is nan"),
    ],
)
def test_a_scheduler_stands_at_numbers(scheduler, message):
    with pytest.raises(ValueError, match=f"the scheduler's {message}"):
        with_plateau(SimpleNamespace(), scheduler, 1e-3)
