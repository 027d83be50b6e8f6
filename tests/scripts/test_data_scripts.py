"""make_dataset and find_lr, and a run on one's own data with the focal loss."""

import csv
import json
import pathlib
import shlex

import numpy as np
import pyarrow.parquet as pq
import pytest
from run_here import run_here
from script_runs import read_json

from jaxrecipes.runs.recipe_config import recipe_and_config


@pytest.fixture(scope="module")
def parquet(eyes, tmp_path_factory):
    output = tmp_path_factory.mktemp("dataset") / "dataset.parquet"
    images = eyes[0].parents[1]
    done = run_here("make_dataset", "--images", images, "--embed-images", "--output", output)
    assert done.code == 0, done.err
    assert done.out == f"{output}\n"
    return output


@pytest.fixture(scope="module")
def focal(parquet, tiny, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "focal"
    flags = ["--data.path", parquet, "--loss.kind", "focal", "--epochs", 1]
    flags += ["--data.cache_dir", workdir.parent / "images", "--data.batch_size", 16]
    done = run_here("train", *tiny, *flags, "--workdir", workdir)
    assert done.code == 0, done.err
    assert "data: train 64, val 16" in done.err
    return workdir


def test_a_folder_becomes_a_parquet_of_both_splits(parquet):
    table = pq.read_table(parquet)
    counts = {s: table["split"].to_pylist().count(s) for s in ("train", "val")}
    assert counts == {"train": 64, "val": 16}
    labels = [f"{c}" for c in table["class_id"].to_pylist()]
    assert labels.count("1") == labels.count("0") == 40


def test_a_focal_model_predicts_with_the_sigmoid_of_twice_its_logit(
    focal, parquet, script, tmp_path
):
    output = tmp_path / "out.csv"
    outcome = script("predict", "--checkpoint", focal, "--inputs", parquet, "--output", output)
    assert outcome.code == 0, outcome.err
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == pq.read_table(parquet)["image_path"].to_pylist()
    logits, probs = (np.array([float(r[k]) for r in rows]) for k in ("logit", "prob_open"))
    np.testing.assert_allclose(probs, 1 / (1 + np.exp(-2 * logits)), atol=2e-6)
    assert np.abs(logits).max() > 0.01


def test_a_focal_run_logs_its_loss_by_name(focal):
    (entry,) = read_json(focal / "history.json")
    assert entry["val"]["loss/focal"] == entry["val"]["loss"]
    assert {"label_smoothing", "focal_gamma"} <= entry["hparams"].keys()


def test_evaluate_takes_other_data(focal, parquet, script):
    outcome = script("evaluate", "--checkpoint", focal, "--data.path", parquet, "--split", "train")
    assert 0 <= json.loads(outcome.out)["accuracy"] <= 1


def test_find_lr_prints_a_suggestion_and_leaves_a_plot(tiny, script, tmp_path):
    output = tmp_path / "lr"
    flags = ("--output", output, "--num_steps", 40, "--end_rate", 10)
    done = script("find_lr", *tiny, *flags)
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert 1e-7 < said["suggestion"] < 10
    assert said["suggestion"] == read_json(output / "learning_rate.json")["suggestion"]
    assert (output / "learning_rate.png").stat().st_size > 1000
    words = shlex.split(said["train"])
    assert words[:2] == ["jaxrecipes", "train"]
    assert words[-2] == "--optim.learning_rate"
    assert float(words[-1]) == pytest.approx(said["suggestion"], rel=0.01)
    _, config = recipe_and_config(words[3], words[4:])  # as train takes them
    assert config.optim.learning_rate == float(words[-1])
    assert f"{words[-1]}</p>" in pathlib.Path(said["page"]).read_text()
    assert done.err == ""
