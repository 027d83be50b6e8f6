"""A recipe that is one file, through every script, and from its run's folder alone."""

import csv
import json
import shutil

import numpy as np
import onnxruntime
import pytest
from script_runs import ROOT, read_json

import jaxrecipes.runs.train
from jaxrecipes.convert import load_safetensors
from jaxrecipes.runs.inference import evaluate
from jaxrecipes.runs.recipe_config import recipe_and_config
from jaxrecipes.runs.trained import open_trained

EXAMPLE = ROOT / "examples/noisy_curve.py"
QUICK = ("--epochs", "3", "--loop.compilation_cache", "")


@pytest.fixture(scope="module")
def curve_run(tmp_path_factory):
    """A run whose recipe's file is gone but for the copy in the run's folder."""
    folder = tmp_path_factory.mktemp("own")
    file = shutil.copy(EXAMPLE, folder)
    recipe, config = recipe_and_config(str(file), QUICK)
    jaxrecipes.runs.train.train(recipe, config, folder / "run")
    (folder / "noisy_curve.py").unlink()
    return folder / "run"


@pytest.fixture
def own_copy(curve_run, tmp_path):
    """The run's folder, to write in."""
    return shutil.copytree(curve_run, tmp_path / "copy")


def train(script, *flags):
    return script("train", *flags, "--loop.compilation_cache", "")


def test_the_example_is_short_and_both_its_terms_move(curve_run):
    assert len(EXAMPLE.read_text().splitlines()) <= 100
    history = read_json(curve_run / "history.json")
    first, last = (entry["hparams"] for entry in (history[0], history[-1]))
    assert first["loss_weight/squared"] > last["loss_weight/squared"]
    assert first["loss_weight/absolute"] < last["loss_weight/absolute"]
    assert {"loss/squared", "loss/absolute", "distance"} <= history[-1]["val"].keys()


def test_a_run_goes_on_from_its_folder_alone(script, own_copy):
    config = own_copy / "config.json"
    flags = ("--workdir", own_copy, "--epochs", 4, "--allow_config_change")
    done = train(script, "--config", config, *flags)
    assert done.code == 0, done.err
    assert read_json(own_copy / "summary.json")["final"]["epoch"] == 4


def test_an_edited_file_is_a_change_that_is_named(script, own_copy, tmp_path):
    edited = tmp_path / "noisy_curve.py"
    edited.write_text(EXAMPLE.read_text().replace("nn.tanh", "nn.relu"))
    flags = ("--config", edited, "--workdir", own_copy, "--epochs", 4)
    refused = train(script, *flags)
    assert refused.code == 2
    assert "noisy_curve.py has changed" in refused.err
    assert (own_copy / "noisy_curve.py").read_text() == EXAMPLE.read_text()
    assert train(script, *flags, "--allow_config_change").code == 0
    assert (own_copy / "noisy_curve.py").read_text() == edited.read_text()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("epochs: Count", "select_metric: str = 'distanse'\n    epochs: Count", "'distance'?"),
        ("metrics=metrics", "metric=metrics", "unknown field of a Recipe 'metric'; did you mean"),
        ("loss_terms=loss_terms,", "", "a Recipe needs loss_terms"),
        ('{"squared": error', '{"sqared": error', "did you mean 'loss_weight/squared'?"),
    ],
)
def test_what_is_wrong_in_a_recipe_is_said_before_it_trains(script, tmp_path, old, new, said):
    (tmp_path / "mine.py").write_text(EXAMPLE.read_text().replace(old, new))
    done = train(script, "--config", tmp_path / "mine.py", "--workdir", tmp_path / "run")
    assert done.code == 2
    assert said in done.err
    assert not (tmp_path / "run/checkpoints").exists()


def test_evaluate_prints_what_the_run_reached(script, curve_run):
    done = script("evaluate", "--checkpoint", curve_run)
    best = read_json(curve_run / "summary.json")["best"]
    assert json.loads(done.out)["distance_ema"] == pytest.approx(best["distance_ema"], rel=1e-5)


def test_predict_takes_arrays_and_writes_every_output(script, curve_run, tmp_path):
    x = np.linspace(-1.0, 1.0, 5)[:, None]
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "more.npz", x=x[:2])
    files = (tmp_path / "x.npy", tmp_path / "more.npz")
    output = tmp_path / "out.csv"
    done = script(*("predict", "--checkpoint", curve_run, "--inputs", *files, "--output", output))
    assert done.code == 0, done.err
    rows = list(csv.DictReader(output.open()))
    assert [row["example"] for row in rows] == [str(i) for i in range(7)]
    assert [row["output"] for row in rows[:2]] == [row["output"] for row in rows[5:]]


def test_inputs_of_another_shape_are_one_line(script, curve_run, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    flags = ("--inputs", tmp_path / "x.npy", "--output", tmp_path / "out.csv")
    done = script("predict", "--checkpoint", curve_run, *flags)
    assert done.code == 2
    assert "x has the shape [3, 2]; expected ['N', 1]" in done.err


def test_exported_files_compute_what_evaluation_does(script, curve_run, tmp_path):
    for kind in ("onnx", "stablehlo", "safetensors"):
        flags = ("--format", kind, "--output", tmp_path / f"curve.{kind}")
        done = script("export", "--checkpoint", curve_run, *flags)
        assert done.code == 0, done.err
    trained = open_trained(curve_run)
    examples = trained.module.load_data(trained.config)["val"]
    (expected,) = evaluate(trained, examples, "auto")
    session = onnxruntime.InferenceSession(tmp_path / "curve.onnx")
    (found,) = session.run(None, {"x": np.asarray(examples.arrays["x"])})
    np.testing.assert_allclose(found, expected.outputs, atol=2e-6)
    weights, metadata = load_safetensors(tmp_path / "curve.safetensors")
    assert weights["params"]["Dense_0"]["kernel"].shape == (1, 32)
    assert metadata["recipe"] == "noisy_curve"


def test_the_rate_is_found_and_searched(script, tmp_path):
    found = script("find_lr", "--config", EXAMPLE, "--output", tmp_path / "lr", *QUICK)
    assert json.loads(found.out)["suggestion"] > 0
    search = ("--search", "optim.learning_rate=1e-3:1e-1:log", "--trials", 1)
    done = script("tune", "--config", EXAMPLE, "--workdir", tmp_path / "search", *search, *QUICK)
    assert done.code == 0, done.err
    for name in ("best.py", "best_config.json"):  # that know their recipe without the example
        recipe, config = recipe_and_config(str(tmp_path / "search" / name))
        assert (recipe.name, config.epochs) == ("noisy_curve", 3)


def test_presets_are_compared(script, tmp_path):
    file = tmp_path / "noisy_curve.py"
    file.write_text(
        EXAMPLE.read_text()
        + "\n\ndef get_config(preset='default'):\n"
        + "    return {'default': Config(), 'narrow': Config(width=4)}[preset]\n"
    )
    flags = ("--presets", "default", "narrow", "--workdir", tmp_path / "compared")
    done = script("compare", "--config", file, *flags, "--epochs", 1, *QUICK[2:])
    assert done.code == 0, done.err
    assert "| narrow |" in done.out


def test_what_a_recipe_has_no_hook_for_is_one_line(script, curve_run, tmp_path):
    flags = ("--to-torch", tmp_path / "x.pt", "--checkpoint", curve_run)
    done = script("convert", EXAMPLE, *flags)
    assert done.code == 2
    assert "noisy_curve.py cannot write a PyTorch checkpoint: it has no export_torch(" in done.err


def test_hooks_of_the_file_are_called(script, tmp_path):
    file = tmp_path / "hooked.py"
    file.write_text(
        EXAMPLE.read_text()
        + """

from jaxrecipes.tune.space import Float, Space


def check_config(config):
    if config.width > 100:
        raise ValueError(f"width is {config.width}; expected at most 100")


def write_report(config, split, evaluation, examples, folder):
    (folder / f"{split}.txt").write_text(str(evaluation.outputs.shape))


def search_space(config):
    return Space({"dropout": Float(0.0, 0.5)})
"""
    )
    quick, run = ("--epochs", 1), tmp_path / "run"
    refused = train(script, "--config", file, "--workdir", run, "--width", 101)
    assert "width is 101; expected at most 100" in refused.err
    assert train(script, "--config", file, "--workdir", run, *quick).code == 0
    assert (run / "plots/val.txt").read_text() == "(128,)"
    search = tmp_path / "search"
    flags = ("--config", file, "--workdir", search, "--trials", 1, *quick, *QUICK[2:])
    done = script("tune", *flags)
    assert done.code == 0, done.err
    assert list(read_json(search / "search.json")["best"]["values"]) == ["dropout"]
