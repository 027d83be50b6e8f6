"""Tables, importances and files of a search whose answer is known."""

import json
import re
import warnings

import numpy as np
import pytest
from matplotlib import pyplot as plt
from toy_search import ToyModule, toy_run_config, toy_study

from jaxrecipes.config import load_config, to_dict, with_fields
from jaxrecipes.runs.recipe_module import RecipeModule
from jaxrecipes.tune import results
from jaxrecipes.tune.config_file import write_config_file
from jaxrecipes.tune.plots import write_plots
from jaxrecipes.tune.report import write_search_report
from jaxrecipes.tune.space import Choice, Float, Space

SPACE = Space(
    {
        "optim.learning_rate": Float(1e-4, 1e-1, log=True),
        "dropout": Float(0.0, 0.5),
        "ema.enabled": Choice((True, False)),
    }
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """30 trials whose metric is lowest at a rate of 3e-3, and a little lower without EMA."""
    workdir = tmp_path_factory.mktemp("search")
    study = toy_study(workdir, SPACE, sampler="random", storage=str(workdir / "journal.log"))
    for i in range(30):
        (claimed,) = study.draw(1, 30)
        values = claimed.values
        miss = np.log10(values["optim.learning_rate"] / 3e-3)
        value = 0.1 + 0.2 * miss**2 + 0.02 * values["ema.enabled"]
        claimed.trial.report(value, 1)
        if i == 7:
            study.fail(claimed, "ValueError: it | broke")
        elif value > 0.5:
            study.prune(claimed)
        else:
            study.finish(claimed, value)
    return study


@pytest.fixture(scope="module")
def written(study):
    best = write_search_report(
        study,
        SPACE,
        recipe=RecipeModule("toy", ToyModule()),
        metric="loss_ema",
        mode="min",
        config_of=lambda number: SPACE.config(
            toy_run_config(), study.values(study.study.trials[number].params)
        ),
    )
    return study.workdir, best


def test_the_best_trial_is_the_lowest_that_ran_to_its_end(written):
    workdir, best = written
    rows = json.loads((workdir / "trials.json").read_text())
    assert best.value == min(row["value"] for row in rows if row["state"] == "complete")
    assert {row["state"] for row in rows} == {"complete", "pruned", "failed"}
    assert rows[7]["reason"] == "ValueError: it | broke"
    assert rows[7]["value"] is None


def test_what_the_metric_depends_on_comes_first_with_its_trend(written):
    found = json.loads((written[0] / "search.json").read_text())
    table = {entry["parameter"]: entry for entry in found["sensitivity"]}
    assert next(iter(table)) == "optim.learning_rate"
    assert max(found["importances"], key=found["importances"].get) == "optim.learning_rate"
    assert sum(found["importances"].values()) == pytest.approx(1.0)
    assert table["optim.learning_rate"]["level"] == "very high"
    assert table["optim.learning_rate"]["trend"] == "lowest in the middle"
    assert table["dropout"]["level"] != "very high"
    low, high = map(float, table["optim.learning_rate"]["recommended"].split(" to "))
    assert low < 3e-3 < high


def test_the_files_are_all_there(written):
    workdir = written[0]
    names = ("history", "importances", "learning_curves", "parallel_coordinates", "slices_1")
    plots = {f"{name}.png" for name in names}
    assert {path.name for path in (workdir / "plots").iterdir()} == plots
    assert len((workdir / "trials.csv").read_text().splitlines()) == 31
    page = (workdir / "report.md").read_text()
    assert "jaxrecipes train --config best.py" in page
    assert "| 7 | ValueError: it \\| broke |" in page
    assert all(f"plots/{name}" in page for name in plots)


def test_the_best_config_has_the_best_values(written):
    workdir, best = written
    stored = json.loads((workdir / "best_config.json").read_text())
    assert stored["recipe"] == "toy"
    assert stored["optim"]["learning_rate"] == best.values["optim.learning_rate"]
    assert stored["ema"]["enabled"] is best.values["ema.enabled"]


def test_few_trials_give_neither_importances_nor_levels(study):
    rows = results.trial_rows(study, mode="min")[:5]
    weighed = results.weighed_study(rows, SPACE.parameters, study.distributions, mode="min")
    assert weighed is None
    assert results.importances(weighed) == {}
    table = results.sensitivities(rows, SPACE.parameters, {}, mode="min")
    assert {entry.level for entry in table} == {"too few trials"}


def test_a_search_whose_trials_all_failed_says_why(tmp_path):
    study = toy_study(tmp_path, SPACE)
    study.fail(*study.draw(1, 1), "ValueError: nothing works")
    rows = results.trial_rows(study, mode="min")
    with pytest.raises(ValueError, match=r"none of 1 trials ran to its end.*\n  .*nothing works"):
        results.best_row(rows, mode="min")


@pytest.mark.parametrize("preset", ["seed", "balanced", "cew"])
def test_a_config_file_is_read_as_the_config_that_it_was_made_of(tmp_path, preset):
    config = load_config(f"configs/ocec.py:{preset}")
    config = with_fields(config, {"model.dropout": "linear(0, 0.25, steps=run)"})
    write_config_file(config, tmp_path / "best.py", about="Some config.")
    again = load_config(str(tmp_path / "best.py"))
    assert to_dict(again) == to_dict(config)
    assert type(again) is type(config)


def test_a_search_with_one_trial_that_ran_to_its_end_is_drawn(tmp_path):
    study = toy_study(tmp_path, SPACE)
    (claimed,) = study.draw(1, 1)
    claimed.trial.report(0.5, 1)
    study.finish(claimed, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_plots(study.study, None, tmp_path / "plots", metric="loss")
    drawn = {path.stem for path in (tmp_path / "plots").iterdir()}
    assert drawn == {"history", "learning_curves"}


def test_drawing_leaves_pyplot_as_it_was(study, tmp_path):
    before = dict(plt.rcParams), plt.get_fignums()
    write_plots(study.study, None, tmp_path, metric="loss_ema")
    assert (dict(plt.rcParams), plt.get_fignums()) == before


def test_the_page_begins_with_the_best_trial_and_what_failed(written):
    workdir, best = written
    page = (workdir / "report.html").read_text()
    first = re.sub("</?(span|wbr)>", "", page[: page.index("<h2>")])
    wanted = [
        f"loss_ema of trial {best.number}, the best (lower is better)",
        f"{best.value:.4f}",
        "optim.learning_rate",
        "<svg",
        "1 trials failed: ValueError: it | broke",
        "jaxrecipes train --config",
    ]
    places = [first.index(text) for text in wanted]
    assert places == sorted(places)
    assert page.count("<figure") == 5
