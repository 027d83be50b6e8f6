"""evaluate, predict and export on a run that was trained with the binary cross entropy."""

import csv
import json
import pathlib

import numpy as np
import pytest
from PIL import Image
from run_here import run_here
from script_runs import metrics_by_epoch, read_json, run

from jaxrecipes.convert.safetensors import load_safetensors
from jaxrecipes.runs.trained import open_trained


def read_csv(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def column(rows: list[dict[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name]) for row in rows])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.fixture(scope="module")
def predicted(trained, eyes, tmp_path_factory):
    """Rows for the PNG files `eyes`, given one by one."""
    output = tmp_path_factory.mktemp("predicted") / "new_folder" / "eyes.csv"
    done = run_here("predict", "--checkpoint", trained[0], "--inputs", *eyes, "--output", output)
    assert done.code == 0, done.err
    assert done.err == f"80 predictions in {output}\n"
    return read_csv(output)


def test_evaluate_prints_the_metrics_of_the_best_step_as_one_json_object(trained):
    done = run("evaluate", "--checkpoint", trained[0])
    assert (done.returncode, done.stderr) == (0, "")
    best = read_json(trained[0] / "summary.json")["best"]
    want = next(e["val"] for e in metrics_by_epoch(trained[0]) if e["step"] == best["step"])
    assert json.loads(done.stdout) == pytest.approx(want, rel=1e-5)


def test_evaluate_takes_another_step_and_split(trained, script):
    outcome = script("evaluate", "--checkpoint", trained[0], "--step", 32, "--split", "train")
    metrics = json.loads(outcome.out)
    assert metrics.keys() == metrics_by_epoch(trained[0])[0]["val"].keys()
    outcome = script("evaluate", "--checkpoint", trained[0], "--step", "latest")
    want = metrics_by_epoch(trained[0])[-1]["val"]
    assert json.loads(outcome.out) == pytest.approx(want, rel=1e-5)


def test_a_prediction_is_a_path_a_logit_and_its_sigmoid(predicted, eyes):
    assert list(predicted[0]) == ["path", "logit", "prob_open"]
    assert [row["path"] for row in predicted] == [path.as_posix() for path in eyes]
    logits, probs = column(predicted, "logit"), column(predicted, "prob_open")
    np.testing.assert_allclose(probs, sigmoid(logits), atol=2e-6)
    assert np.ptp(logits) > 0


def test_a_folder_is_searched_for_images(predicted, trained, eyes, script, tmp_path):
    folder, output = eyes[0].parents[1], tmp_path / "out.csv"
    outcome = script("predict", "--checkpoint", trained[0], "--inputs", folder, "--output", output)
    assert outcome.code == 0, outcome.err
    assert sorted(map(tuple, map(dict.values, read_csv(output)))) == sorted(
        map(tuple, map(dict.values, predicted))
    )


def test_raw_weights_predict_otherwise_than_averaged_ones(
    predicted, trained, eyes, script, tmp_path
):
    output = tmp_path / "out.csv"
    arguments = ("--checkpoint", trained[0], "--inputs", *eyes[:4], "--output", output)
    assert script("predict", *arguments, "--weights", "raw").code == 0
    raw = column(read_csv(output), "logit")
    assert not np.allclose(raw, column(predicted[:4], "logit"), atol=1e-4)
    assert script("predict", *arguments, "--weights", "ema").code == 0
    np.testing.assert_allclose(
        column(read_csv(output), "logit"), column(predicted[:4], "logit"), atol=1e-5
    )


def test_an_unreadable_image_is_left_out_and_told(trained, eyes, script, tmp_path):
    broken, output = tmp_path / "broken.png", tmp_path / "out.csv"
    broken.write_bytes(eyes[0].read_bytes()[:40])
    arguments = ("--inputs", broken, eyes[0], "--output", output)
    outcome = script("predict", "--checkpoint", trained[0], *arguments)
    assert outcome.code == 0
    assert "1 of 2 images" in outcome.err
    assert str(broken) in outcome.err
    assert [row["path"] for row in read_csv(output)] == [eyes[0].as_posix()]


def test_onnx_predicts_as_predict_does(predicted, trained, eyes, script, tmp_path):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    output = tmp_path / "new_folder" / "eyes.onnx"
    done = script("export", "--checkpoint", trained[0], "--format", "onnx", "--output", output)
    assert done.code == 0, done.err
    assert len(done.err.splitlines()) == 1
    session = onnxruntime.InferenceSession(output, providers=["CPUExecutionProvider"])
    images = np.stack([np.asarray(Image.open(path)) for path in eyes])
    (probs,) = session.run(
        ["prob_open"], {"images": images.transpose(0, 3, 1, 2).astype(np.float32) / 255}
    )
    np.testing.assert_allclose(probs, column(predicted, "prob_open"), atol=1e-5)


def test_stablehlo_predicts_as_predict_does(predicted, trained, eyes, script, tmp_path):
    from jaxrecipes.export.stablehlo import load_stablehlo

    output = tmp_path / "new_folder" / "eyes.stablehlo"
    arguments = ("--checkpoint", trained[0], "--format", "stablehlo", "--output", output)
    assert script("export", *arguments).code == 0
    images = np.stack([np.asarray(Image.open(path)) for path in eyes[:8]])
    probs = load_stablehlo(output)(images.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    np.testing.assert_allclose(probs, column(predicted[:8], "prob_open"), atol=1e-5)


def test_safetensors_hold_the_averaged_weights_and_the_config(trained, script, tmp_path):
    output = tmp_path / "new_folder" / "eyes.safetensors"
    arguments = ("--checkpoint", trained[0], "--format", "safetensors", "--output", output)
    assert script("export", *arguments).code == 0
    tree, metadata = load_safetensors(output)
    params, batch_stats = open_trained(trained[0]).weights()
    assert tree.keys() == {"params", "batch_stats"}
    np.testing.assert_equal(tree, {"params": params, "batch_stats": batch_stats})
    assert json.loads(metadata["config"])["model"]["base_channels"] == 8
