import json

import pytest
from PIL import Image

from jaxrecipes.report.comparison import as_json, as_markdown, compare_runs, plot


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


def test_rows_are_the_runs_with_best_and_final_figures(folders):
    lines = as_markdown(compare_runs(folders)).splitlines()
    assert lines[0] == "# toy: before, after"
    assert lines[4].split(" | ")[:3] == ["| preset", "loss", "cosine"]
    assert lines[6] == "| before | 0.2000 / 0.3000 | 0.8000 / 0.7000 | 2 | 3 | no | 1m 05s | 90 |"
    assert lines[7] == "| after | 0.1000 / 0.1000 | 0.9000 / 0.9000 | 2 | 2 | yes | 1m 05s | 48 |"


def test_the_change_is_against_the_first_run(folders):
    text = as_markdown(compare_runs(folders))
    assert "| loss | 0.2000 | -0.1000 (-50.0%) |" in text
    assert "| cosine | 0.8000 | +0.1000 (+12.5%) |" in text


def test_only_settings_that_differ_are_listed(folders):
    found = compare_runs(folders)
    assert found.differences == {"optim.learning_rate": {"before": 1e-4, "after": 5e-5}}
    assert "| optim.learning_rate | 0.0001 | 5e-05 |" in as_markdown(found)


def test_losses_of_other_weights_are_not_held_to_be_comparable(folders, tmp_path):
    assert "loss itself differs" not in as_markdown(compare_runs(folders))
    folders["other"] = write_run(
        tmp_path / "other", losses=[0.1], cosines=[0.9], config=config(1e-4, mse_weight=0.5)
    )
    assert "loss itself differs" in as_markdown(compare_runs(folders))


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
    assert "| broke | 0.4000 / 0.4000 | - / - |" in as_markdown(found)


def test_one_run_has_nothing_to_be_compared_with(folders):
    text = as_markdown(compare_runs({"before": folders["before"]}))
    assert "Change" not in text
    assert "differ" not in text


def test_a_folder_without_a_finished_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"empty holds no finished run"):
        compare_runs({"one": tmp_path / "empty"})
