"""`scripts/tune.py` on a tiny configuration, as a user runs it."""

import csv
import sys

import pytest
from script_runs import TINY, read_json

from jaxrecipes.config import load_config, to_dict

SEARCH = [*TINY, "--epochs", "1", "--trials", "3", "--search", "loss.weight=0.5:2:log"]


@pytest.fixture
def searched(tmp_path, script):
    done = script("tune", *SEARCH, "--ema.decay", "0.9", "--workdir", tmp_path)
    assert done.code == 0, done.err
    return tmp_path, done


def test_a_search_leaves_the_best_config_tables_plots_and_a_page(searched, script):
    workdir, done = searched
    with (workdir / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["complete"] * 3
    assert {"optim.learning_rate", "loss.weight"} <= rows[0].keys()
    assert "ema.decay" not in rows[0]  # it was given a value
    assert read_json(workdir / "trials/0002/summary.json")["compilations"] == {
        "train": 1,
        "eval": 1,
    }
    best = max(rows, key=lambda row: float(row["value"]))
    config = load_config(f"{workdir / 'best.py'}")
    assert config.optim.learning_rate == float(best["optim.learning_rate"])
    assert config.loss.weight == float(best["loss.weight"])
    assert read_json(workdir / "best_config.json") == {"recipe": "ocec"} | to_dict(config)
    plots = {path.stem for path in (workdir / "plots").iterdir()}
    assert {"history", "learning_curves", "parallel_coordinates", "slices_1"} <= plots
    assert (workdir / "report.md").exists()
    assert f"jaxrecipes train --config {workdir / 'best.py'}" in done.err
    assert (workdir / "report.html").exists()

    again = script("tune", *SEARCH, "--ema.decay", "0.9", "--workdir", workdir)
    assert again.code == 0, again.err
    assert "epoch 1" not in again.err  # all trials were there


def test_a_misspelt_parameter_is_named_before_any_time_is_spent(script, tmp_path):
    done = script("tune", *TINY, "--search", "model.dropuot=0:0.5", "--workdir", tmp_path / "new")
    assert done.code == 2
    assert "did you mean 'model.dropout'" in done.err
    assert not (tmp_path / "new").exists()


def test_without_optuna_the_script_says_how_to_get_it(script, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = script("tune", *TINY, "--workdir", tmp_path)
    assert done.code == 2
    assert "searching needs Optuna: pip install " in done.err
    assert done.err.strip().endswith("[tune]'")
