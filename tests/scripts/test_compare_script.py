"""`scripts/compare.py`, with a training that only writes down what it was asked."""

import json
import types

import pytest

from jaxrecipes.config import to_dict


@pytest.fixture
def trainings(monkeypatch):
    """(folder, config) of each run; that of the preset `balanced` is interrupted."""
    asked = []

    def train(module, config, workdir, **allowed):
        asked.append((workdir.name, config))
        loss = config.optim.learning_rate
        outcome = {"epoch": 1, "step": 8, "loss": loss}
        files = {
            "config": {"recipe": config.RECIPE} | to_dict(config),
            "history": [
                {"epoch": 1, "step": 8, "examples_per_second": 1.0}
                | {"train": {"loss": loss}, "val": {"loss": loss}}
            ],
            "summary": {
                **{"best": outcome, "final": outcome, "test": {}},
                **{"stopped_early": False, "seconds": 1.0, "num_params": 1},
            },
        }
        for name, value in files.items():
            (workdir / f"{name}.json").write_text(json.dumps(value))
        return None if workdir.name == "balanced" else types.SimpleNamespace(interrupted=False)

    monkeypatch.setattr("jaxrecipes.runs.train.train", train)
    return asked


def compare(script, workdir, *presets):
    flags = ("--loop.compilation_cache", "", "--epochs", 7)
    given = ("--config", "configs/ocec.py", "--workdir", workdir, "--presets")
    return script("compare", *given, *presets, *flags)


def test_each_preset_trains_in_its_own_folder_under_the_same_overrides(script, trainings, tmp_path):
    outcome = compare(script, tmp_path, "default", "seed")
    assert outcome.code == 0, outcome.err
    assert [(name, config.epochs) for name, config in trainings] == [("default", 7), ("seed", 7)]
    assert [config.optim.learning_rate for _, config in trainings] == [3e-3, 1e-4]


def test_the_tables_are_printed_and_left_with_the_data_and_a_picture(script, trainings, tmp_path):
    outcome = compare(script, tmp_path, "default", "seed")
    assert outcome.out == (tmp_path / "comparison.md").read_text()
    assert "| optim.learning_rate | 0.003 | 0.0001 |" in outcome.out
    assert list(json.loads((tmp_path / "comparison.json").read_text())["runs"]) == [
        "default",
        "seed",
    ]
    assert (tmp_path / "comparison.png").exists()


def test_a_run_that_is_stopped_ends_the_comparison(script, trainings, tmp_path):
    outcome = compare(script, tmp_path, "default", "balanced", "seed")
    assert outcome.code == 0
    assert outcome.out == ""
    assert [name for name, _ in trainings] == ["default", "balanced"]
    assert not (tmp_path / "comparison.md").exists()


def test_nothing_trains_when_a_preset_is_wrong(script, trainings, tmp_path):
    for presets, problem in ((("default", "sed"), "seed"), (("seed", "seed"), "twice")):
        outcome = compare(script, tmp_path, *presets)
        assert outcome.code == 2
        assert problem in outcome.err
    assert trainings == []
