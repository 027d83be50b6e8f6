"""The recipe learns, and goes on where it was stopped."""

import pathlib

import jaxrecipes

FILE = str(pathlib.Path(__file__).with_name("recipe.py"))


def test_it_learns(tmp_path):
    assert jaxrecipes.fit(FILE, tmp_path).summary["best"]["accuracy_ema"] > 0.9


def test_a_run_goes_on_where_it_was_stopped(tmp_path):
    jaxrecipes.fit(FILE, tmp_path, fields={"epochs": 1})
    finished = jaxrecipes.fit(FILE, tmp_path, fields={"epochs": 2}, allow_config_change=True)
    assert finished.summary["final"]["epoch"] == 2
