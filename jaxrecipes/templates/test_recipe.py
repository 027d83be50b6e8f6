"""The recipe learns, and goes on where it was stopped."""

import pathlib
from typing import Any

import jaxrecipes

FILE = str(pathlib.Path(__file__).with_name("recipe.py"))


def summary_of(workdir: pathlib.Path, **options: Any) -> dict[str, Any]:
    finished = jaxrecipes.fit(FILE, workdir, **options)
    assert finished is not None, "a signal stopped the run"
    return finished.summary


def test_it_learns(tmp_path: pathlib.Path) -> None:
    assert summary_of(tmp_path)["best"]["accuracy_ema"] > 0.9


def test_a_run_goes_on_where_it_was_stopped(tmp_path: pathlib.Path) -> None:
    summary_of(tmp_path, fields={"epochs": 1})
    again = summary_of(tmp_path, fields={"epochs": 2}, allow_config_change=True)
    assert again["final"]["epoch"] == 2
