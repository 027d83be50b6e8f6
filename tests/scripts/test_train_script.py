"""What `scripts/train.py` leaves behind, and the names that others rely on."""

import re
import shutil

import pytest
from script_runs import metrics_by_epoch, read_json, scalar_steps

METRICS = {"loss", "loss/bce", "accuracy", "precision", "recall", "f1"}
RAW = METRICS | {"auc"}


def test_history_has_one_entry_for_each_epoch(trained):
    entries = metrics_by_epoch(trained[0])
    assert [(e["epoch"], e["step"]) for e in entries] == [(1, 8), (2, 16), (3, 24), (4, 32)]
    for entry in entries:
        assert entry["train"].keys() >= METRICS
        assert entry["val"].keys() == RAW | {f"{name}_ema" for name in RAW}
        assert entry["hparams"].keys() >= {"learning_rate", "weight_decay", "dropout_rate"}


def test_the_summary_names_the_best_and_the_final_epoch(trained):
    summary, entries = read_json(trained[0] / "summary.json"), metrics_by_epoch(trained[0])
    best = max(entries, key=lambda e: (e["val"]["f1_ema"], -e["epoch"]))
    for name, entry in (("best", best), ("final", entries[-1])):
        assert summary[name] == {k: entry[k] for k in ("epoch", "step")} | entry["val"]
    assert summary["compilations"] == {"train": 1, "eval": 1}


def test_the_config_is_stored_resolved(trained):
    config = read_json(trained[0] / "config.json")
    assert config["recipe"] == "ocec"
    assert config["data"]["image_size"] == [16, 16]
    assert config["model"]["base_channels"] == 8


@pytest.mark.parametrize(
    ("tag", "steps"),
    [
        *((f"val/{name}", range(8, 33, 8)) for name in ("loss", "f1", "f1_ema", "auc_ema")),
        *((f"epoch/{name}", range(8, 33, 8)) for name in ("loss", "loss/bce", "accuracy")),
        *((f"train/{name}", range(4, 33, 4)) for name in ("loss", "loss/bce", "grad_norm")),
        *((f"hparams/{name}", range(4, 33, 4)) for name in ("learning_rate", "dropout_rate")),
    ],
)
def test_tensorboard_has(trained, tag, steps):
    found = scalar_steps(trained[0] / "tensorboard")
    assert tag in found, sorted(found)
    assert found[tag] == list(steps)


def test_tensorboard_has_the_throughput(trained):
    found = scalar_steps(trained[0] / "tensorboard")
    (tag,) = (tag for tag in found if tag.endswith("examples_per_second"))
    assert len(found[tag]) >= 6  # not where compilation would count


def test_plots_and_the_page_are_there(trained):
    workdir = trained[0]
    plots = {path.name for path in (workdir / "plots").iterdir()}
    assert plots >= {
        "augmented_samples.png",
        "confusion_val.png",
        "curves.png",
        "precision_recall_val.png",
        "roc_val.png",
        "worst_mistakes_val.png",
    }
    page = (workdir / "report.html").read_text()
    assert "f1_ema" in page
    assert page.count("data:image/png;base64,") + page.count('src="plots/') >= len(plots)


def test_newest_and_best_checkpoints_are_kept(trained):
    steps = {int(path.name) for path in (trained[0] / "checkpoints").iterdir()}
    best = read_json(trained[0] / "summary.json")["best"]["step"]
    assert steps == {30, 32, best}


def test_the_log_is_plain_lines_and_nothing_else(trained):
    """No warnings of the libraries below, no traceback, nothing on standard output."""
    workdir, done = trained
    assert done.stdout == ""
    kinds = r"run folder: |data: |epoch \d|best: |report: |drawing "
    kinds += r"|8 steps per call: "
    strange = [line for line in done.stderr.splitlines() if not re.match(kinds, line)]
    assert strange == []
    assert "epoch 4  step 32" in (workdir / "train.log").read_text()


def test_a_finished_run_is_not_trained_again(trained, tiny, script, tmp_path):
    workdir = shutil.copytree(trained[0], tmp_path / "run")
    before = metrics_by_epoch(workdir), (workdir / "checkpoints/32").stat().st_mtime_ns
    assert script("train", *tiny, "--workdir", workdir).code == 0
    assert before == (
        metrics_by_epoch(workdir),
        (workdir / "checkpoints/32").stat().st_mtime_ns,
    )
