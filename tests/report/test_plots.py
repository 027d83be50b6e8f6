import math

import numpy as np
import pytest
from PIL import Image

from jaxrecipes.report import plots
from jaxrecipes.report.curves import _panels


def entry(epoch: int, **hparams: float) -> dict:
    return {
        "epoch": epoch,
        "step": 10 * epoch,
        "train": {"loss": 1.0 / epoch, "grad_norm": 2.0},
        "val": {"loss": 1.1 / epoch, "f1": 0.9, "f1_ema": 0.8},
        "hparams": hparams,
    }


def labels(panels: dict) -> dict[str, list[str]]:
    return {name: [line[0] for line in lines] for name, lines in panels.items()}


def test_raw_and_ema_share_a_panel_and_constant_hyperparameters_have_none():
    history = [entry(e, learning_rate=1e-3, dropout_rate=0.1 * e, b1=0.9) for e in (1, 2, 3)]
    assert labels(_panels(history)) == {
        "loss": ["train", "val"],
        "f1": ["val", "val, EMA"],
        "grad_norm": ["train"],
        "learning_rate": [""],
        "dropout_rate": [""],
    }


def test_missing_and_non_finite_numbers_leave_a_gap():
    history = [entry(1), entry(2), entry(3)]
    history[1]["val"]["f1"] = None
    history[2]["val"] = {"f1": math.nan}
    values = _panels(history)["f1"][0][3]
    np.testing.assert_array_equal(values, [0.9, np.nan, np.nan])


@pytest.mark.parametrize("epochs", [0, 1, 12])
def test_training_curves_are_drawn_for_any_number_of_epochs(tmp_path, epochs):
    path = tmp_path / "plots" / "curves.png"
    history = [entry(e, learning_rate=0.1**e) for e in range(1, epochs + 1)]
    plots.training_curves(history, path, best_epoch=1, title="run")
    assert Image.open(path).width > 400


def test_confusion_matrix_wants_one_name_per_row(tmp_path):
    plots.confusion_matrix([[5, 1], [0, 7]], tmp_path / "c.png", class_names=("closed", "open"))
    assert Image.open(tmp_path / "c.png").size == (600, 600)
    with pytest.raises(ValueError, match=r"shape \(2, 2\).*got \(3, 3\)"):
        plots.confusion_matrix(np.eye(3), tmp_path / "c.png", class_names=("closed", "open"))


@pytest.mark.parametrize("points", [[], [0.0, 0.5, 1.0]])
def test_curves_are_drawn_or_replaced_by_a_note(tmp_path, points):
    area = 0.5 if points else math.nan
    plots.roc_curve(points, points, area, tmp_path / "roc.png")
    plots.precision_recall_curve(points, points[::-1], area, tmp_path / "pr.png")
    assert (tmp_path / "roc.png").stat().st_size > 1000
    assert (tmp_path / "pr.png").stat().st_size > 1000


@pytest.mark.parametrize("suggestion", [1e-3, None])
def test_learning_rate_finder_survives_a_diverged_end(tmp_path, suggestion):
    losses = [0.7, 0.5, 0.3, 9e9, math.inf, math.nan]
    rates = np.geomspace(1e-6, 1, 6)
    plots.learning_rate_finder(rates, losses, suggestion, tmp_path / "lr.png", smoothed=losses)
    assert Image.open(tmp_path / "lr.png").width == 900


def test_contact_sheet_enlarges_pixels_and_keeps_their_order(tmp_path):
    images = np.zeros((3, 2, 2, 3), np.uint8)
    images[2] = (200, 10, 20)
    plots.contact_sheet(images, ["a", "b", "c"], tmp_path / "s.png", columns=2, scale=60)
    sheet = np.asarray(Image.open(tmp_path / "s.png"))
    rows, columns = np.nonzero((sheet == (200, 10, 20)).all(-1))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (120, 120)
    assert rows.min() > 120  # the third image starts the second row
    assert columns.min() < 60


def test_contact_sheet_without_images_says_so(tmp_path):
    plots.contact_sheet(np.zeros((0, 4, 4, 3), np.uint8), [], tmp_path / "s.png")
    assert np.asarray(Image.open(tmp_path / "s.png")).min() < 128


def test_contact_sheet_wants_a_caption_per_image(tmp_path):
    with pytest.raises(ValueError, match="caption per image, got 1 for 2"):
        plots.contact_sheet(np.zeros((2, 4, 4, 3), np.uint8), ["a"], tmp_path / "s.png")


def test_a_failed_write_leaves_the_old_plot_alone(tmp_path, monkeypatch):
    path = tmp_path / "roc.png"
    plots.roc_curve([0, 1], [0, 1], 0.5, path)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        plots.roc_curve([0, 0, 1], [0, 1, 1], 1.0, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["roc.png"]
