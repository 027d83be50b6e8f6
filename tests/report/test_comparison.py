import json

import pytest
from PIL import Image

from jaxrecipes.report.comparison import as_json, compare_runs
from jaxrecipes.report.comparison_page import write_comparison_page
from jaxrecipes.report.comparison_plot import plot
from jaxrecipes.report.comparison_tables import markdown
from jaxrecipes.report.sections import NOTHING


def write_run(folder, *, losses, cosines, config, stopped=False, validated=True):
    """A run whose best epoch is that of the lowest loss."""
    history = []
    for epoch, (loss, cosine) in enumerate(zip(losses, cosines, strict=True), start=1):
        found = {"loss": loss, "loss/mse": loss, "cosine": cosine, "cosine_input": 0.5}
        entry = {"epoch": epoch, "step": 10 * epoch, "train": {"loss": 2 * loss}, "val": found}
        entry["examples_per_second"] = [5.0, 90.0, 100.0][epoch - 1]
        history.append(entry if validated else entry | {"train": found, "val": {}})

    def outcome(entry):
        return {"epoch": entry["epoch"], "step": entry["step"], **(entry["val"] or entry["train"])}

    summary = {
        "best": outcome(history[losses.index(min(losses))]),
        "final": outcome(history[-1]),
        "test": {},
        "stopped_early": stopped,
        "seconds": 65.0,
        "num_params": 7,
    }
    folder.mkdir()
    for name, value in (("config", config), ("history", history), ("summary", summary)):
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def config(learning_rate, *, mse_weight=0.3):
    return {
        "recipe": "toy",
        "optim": {"learning_rate": learning_rate, "b1": 0.9},
        "loss": {"mse_weight": mse_weight},
    }


@pytest.fixture
def folders(tmp_path):
    return {
        "before": write_run(
            tmp_path / "before",
            losses=[0.4, 0.2, 0.3],
            cosines=[0.6, 0.8, 0.7],
            config=config(1e-4),
        ),
        "after": write_run(
            tmp_path / "after",
            losses=[0.3, 0.1],
            cosines=[0.7, 0.9],
            config=config(5e-5),
            stopped=True,
        ),
    }


def test_columns_are_the_runs_with_best_and_final_figures(folders):
    text = markdown(compare_runs(folders))
    assert text.startswith("# toy: before, after")
    best, last = text.split("## At the last validation")
    for row in (
        "|  | before | after |",
        "| loss | 0.2000 | 0.1000 |",
        "| cosine | 0.8000 | 0.9000 |",
        "| best epoch | 2 | 2 |",
        "| epochs | 3 | 2 |",
        "| stopped early | no | yes |",
        "| time | 1m 05s | 1m 05s |",
        "| examples/s | 90 | 48 |",
    ):
        assert row in best
    assert "| loss | 0.3000 | 0.1000 |" in last


def test_the_change_is_against_the_first_run(folders):
    text = markdown(compare_runs(folders))
    assert "| loss | 0.2000 | -0.1000 (-50.0%) |" in text
    assert "| cosine | 0.8000 | +0.1000 (+12.5%) |" in text


def test_only_settings_that_differ_are_listed(folders):
    found = compare_runs(folders)
    assert found.differences == {"optim.learning_rate": {"before": 1e-4, "after": 5e-5}}
    assert "| optim.learning_rate | 0.0001 | 5e-05 |" in markdown(found)


def test_losses_of_other_weights_are_not_held_to_be_comparable(folders, tmp_path):
    assert "loss itself differs" not in markdown(compare_runs(folders))
    folders["other"] = write_run(
        tmp_path / "other", losses=[0.1], cosines=[0.9], config=config(1e-4, mse_weight=0.5)
    )
    assert "loss itself differs" in markdown(compare_runs(folders))


def test_metrics_that_no_run_moved_and_terms_of_the_loss_are_left_out(folders):
    assert compare_runs(folders).metrics == ["loss", "cosine"]


def test_metrics_can_be_named(folders):
    assert compare_runs(folders, metrics=["cosine_input"]).metrics == ["cosine_input"]
    with pytest.raises(ValueError, match=r"'before' has no metric 'cosin'.*cosine_input"):
        compare_runs(folders, metrics=["cosin"])


def test_plain_data_is_json(folders):
    found = json.loads(json.dumps(as_json(compare_runs(folders))))
    assert found["runs"]["after"]["best"]["cosine"] == 0.9
    assert found["runs"]["after"]["epochs"] == 2
    assert found["runs"]["after"]["stopped_early"] is True


def test_curves_are_drawn_for_a_run_that_broke_and_one_without_validation(folders, tmp_path):
    folders["broke"] = write_run(
        tmp_path / "broke", losses=[0.5, 0.4], cosines=[None, None], config=config(1.0)
    )
    folders["unvalidated"] = write_run(
        tmp_path / "bare", losses=[0.5], cosines=[0.5], config=config(1.0), validated=False
    )
    found = compare_runs(folders)
    plot(found, tmp_path / "c.png")
    assert Image.open(tmp_path / "c.png").width > 800
    rows = markdown(found).split("## At the last")[1].splitlines()
    assert f"| cosine | 0.7000 | 0.9000 | {NOTHING} | 0.5000 |" in rows


def test_one_run_has_nothing_to_be_compared_with(folders):
    text = markdown(compare_runs({"before": folders["before"]}))
    assert "Change" not in text
    assert "differ" not in text


def test_a_folder_without_a_finished_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"empty holds no finished run"):
        compare_runs({"one": tmp_path / "empty"})


@pytest.fixture
def counted_in_steps(tmp_path):
    """Two runs of three validations each; the second one starts dropout later."""
    errors = {"before": [30.0, 20.0, 25.0], "after": [28.0, 18.0, 17.0]}
    rates = {"before": [0.1, 0.1, 0.1], "after": [0.0, 0.1, 0.1]}
    folders = {}
    for name, values in errors.items():
        outcomes = [{"loss": value / 10, "mpjpe": value} for value in values]
        history = [
            {
                **{"epoch": i + 1, "step": 100 * (i + 1), "examples_per_second": 9.0},
                **{"train": {"loss": 0.5, "mpjpe": 15.0 + i}, "val": outcomes[i]},
                "hparams": {"dropout_rate": rates[name][i], "learning_rate": 0.1 / (i + 1)},
            }
            for i in range(3)
        ]
        best = min(range(3), key=values.__getitem__)
        summary = {
            **{"best": {"epoch": best + 1, "step": 100 * (best + 1), **outcomes[best]}},
            **{"final": outcomes[-1], "test": {}, "selected_by": "mpjpe"},
            **{"stopped_early": False, "seconds": 1.0, "num_params": 1},
        }
        folders[name] = tmp_path / name
        folders[name].mkdir()
        files = {"config": {"recipe": "toy", "steps": 300}, "history": history, "summary": summary}
        for file, value in files.items():
            (folders[name] / f"{file}.json").write_text(json.dumps(value))
    return folders


def test_runs_that_count_steps_are_compared_by_step(counted_in_steps):
    text = markdown(compare_runs(counted_in_steps))
    assert "| best step | 200 | 300 |" in text
    assert "| steps | 300 | 300 |" in text
    assert text.index("| mpjpe | 20.0000") < text.index("| loss | 2.0000")  # it selects


def test_the_spread_over_validations_tells_how_steady_a_run_was(counted_in_steps):
    text = markdown(compare_runs(counted_in_steps))
    assert "| mpjpe | 25.0000 / 4.0825 |" in text


def test_the_selected_metric_is_followed_with_its_gap_to_training(counted_in_steps):
    lines = markdown(compare_runs(counted_in_steps)).splitlines()
    start = lines.index("## mpjpe by step")
    assert lines[start + 2].startswith("| step | before: validation | before: training | before:")
    row = "| 200 | 20.0000 | 16.0000 | 4.0000 | 18.0000 | 16.0000 | 2.0000 |"
    assert lines[start + 5] == row


def test_only_hyperparameters_that_moved_differently_have_a_table(counted_in_steps):
    found = compare_runs(counted_in_steps)
    assert found.hparams == ["dropout_rate", "learning_rate"]
    lines = markdown(found).splitlines()
    start = lines.index("## Hyperparameters that moved differently")
    assert lines[start + 2] == "| step | before: dropout_rate | after: dropout_rate |"
    assert lines[start + 4] == "| 100 | 0.1000 | 0 |"
    assert "learning_rate" not in markdown(found)


def test_the_picture_has_panels_for_the_gap_and_for_what_moved(counted_in_steps, tmp_path):
    found = compare_runs(counted_in_steps)
    plot(found, tmp_path / "steps.png")
    rows = 2  # mpjpe, its gap, loss; dropout_rate, learning_rate
    assert Image.open(tmp_path / "steps.png").height == pytest.approx(150 * 3.2 * rows, abs=2)
    by_validation = as_json(found)["runs"]["after"]["by_validation"]
    assert by_validation["hparams"]["dropout_rate"] == [0.0, 0.1, 0.1]


def test_the_page_begins_with_the_best_run(counted_in_steps, tmp_path):
    found = compare_runs(counted_in_steps)
    page = write_comparison_page(found, counted_in_steps, tmp_path / "report.html").read_text()
    first = page[: page.index("<h2>")]
    for text in (
        "mpjpe of after, the best",
        "17.0000",
        "300",
        "-3.0000 (-15.0%)",
        "<svg",
        "export",
    ):
        assert text in first
    assert "20.0000" in first  # the other run
