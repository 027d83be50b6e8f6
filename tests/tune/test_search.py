import dataclasses
import json
import math
import pathlib
import signal
import subprocess
import sys

import pytest
from optuna.trial import TrialState
from toy_search import NUMBERS, ToyModule, toy_run_config, toy_search, toy_study

from jaxrecipes.interrupt import Interrupt
from jaxrecipes.tune.results import trial_rows
from jaxrecipes.tune.space import Choice, Int, Space


def rows(search):
    return trial_rows(search.study, mode="min")


def outcomes(search):
    return [(row.values, row.value, row.state) for row in rows(search)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    search = toy_search(tmp_path_factory.mktemp("search"))
    assert search.run(4)
    return search


def test_trials_that_change_numbers_compile_once_and_load_the_data_once(undisturbed):
    assert undisturbed.shared.num_programs == 1
    assert undisturbed.shared._module.names.loads == 1
    for row in rows(undisturbed):
        summary = undisturbed.study.workdir / row.folder / "summary.json"
        assert json.loads(summary.read_text())["compilations"] == {"train": 1, "eval": 1}


def test_the_first_trial_is_the_config_as_it_is(undisturbed):
    assert rows(undisturbed)[0].values == {"optim.learning_rate": 1e-3, "dropout": 0.2}


def test_the_value_is_the_best_of_the_run_and_its_checkpoint_is_the_only_one_left(undisturbed):
    workdir, found = undisturbed.study.workdir, rows(undisturbed)
    best = min(found, key=lambda row: row.value)
    history = json.loads((workdir / best.folder / "history.json").read_text())
    assert best.value == min(entry["val"]["loss_ema"] for entry in history)
    assert [path.parent.name for path in workdir.glob("trials/*/checkpoints")] == [
        pathlib.Path(best.folder).name
    ]


def test_a_search_goes_on_on_the_same_data_only(undisturbed, tmp_path, monkeypatch):
    def changed(self, config):
        splits = load_data(self, config)
        splits["train"].arrays["label"][0] ^= 1
        return splits

    toy_search(tmp_path, shared=undisturbed.shared).run(1)
    load_data = ToyModule.load_data
    monkeypatch.setattr(ToyModule, "load_data", changed)
    with pytest.raises(ValueError, match=r"not what the search .* other label .*val: as before"):
        toy_search(tmp_path).run(2)
    monkeypatch.undo()
    again = toy_search(tmp_path, shared=undisturbed.shared)
    again.run(2)
    assert len([row for row in rows(again) if row.state == "complete"]) == 2


def test_a_finished_search_goes_on_to_more_trials(undisturbed, tmp_path):
    search = toy_search(tmp_path, shared=undisturbed.shared)
    search.run(2)
    again = toy_search(tmp_path, shared=undisturbed.shared)
    again.run(4)
    assert outcomes(again) == outcomes(undisturbed)


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_a_search_whose_process_is_killed_ends_as_if_undisturbed(undisturbed, tmp_path, storage):
    if storage == "sqlite":
        worker = pathlib.Path(__file__).with_name("search_worker.py")
        killed = subprocess.run([sys.executable, worker, tmp_path, "5"], check=False)
        assert killed.returncode == -signal.SIGKILL
        search = toy_search(tmp_path, shared=undisturbed.shared)
    else:  # the process dies between two epochs, as far as the study can tell
        storage = str(tmp_path / "journal.log")
        search = toy_search(tmp_path, shared=undisturbed.shared, storage=storage)
        search.run(2)
        search.study.draw(1, 4)[0].lock.release()
        search = toy_search(tmp_path, shared=undisturbed.shared, storage=storage)
    search.run(4)
    assert outcomes(search) == outcomes(undisturbed)
    trials = search.study.study.trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4
    assert sorted(trial.user_attrs.get("attempt", 1) for trial in trials) == [1, 1, 1, 2]


def test_a_signal_stops_the_search_and_its_trial_goes_on_later(undisturbed, tmp_path, monkeypatch):
    calls = iter(range(100))
    monkeypatch.setattr(Interrupt, "requested", lambda self: next(calls) >= 10)
    assert not toy_search(tmp_path, shared=undisturbed.shared).run(4)
    monkeypatch.undo()
    search = toy_search(tmp_path, shared=undisturbed.shared)
    assert search.run(4)
    assert outcomes(search) == outcomes(undisturbed)


def test_a_trial_that_kills_its_process_three_times_is_left_failed(tmp_path):
    study = toy_study(tmp_path)
    (claimed,) = study.draw(1, 1)
    for _ in range(2):
        claimed.lock.release()
        (claimed,) = study.adopt(1)
    claimed.lock.release()
    assert study.adopt(1) == study.draw(1, 1) == []
    (row,) = trial_rows(study, mode="min")
    assert (row.state, row.reason) == ("failed", "its process died")


def test_processes_share_the_trials_and_leave_those_alone_that_run(tmp_path):
    first, second = toy_study(tmp_path), toy_study(tmp_path)
    claimed = [*first.draw(1, 3), *second.draw(1, 3), *first.draw(2, 3)]
    assert second.draw(1, 3) == second.adopt(3) == []
    assert [c.trial.number for c in claimed] == [0, 1, 2]
    assert len({tuple(c.values.items()) for c in claimed}) == 3


def test_trials_that_fail_are_recorded_with_the_reason_and_do_not_end_it(undisturbed, tmp_path):
    space = Space({"width": Choice((8, 11)), "l2": Choice((0.1, 3e38))})
    loop = dataclasses.replace(toy_run_config().loop, max_skipped_in_row=3)
    search = toy_search(
        tmp_path,
        space,
        config=toy_run_config(loop=loop),
        sampler="random",
        shared=undisturbed.shared,
    )
    search.run(8)
    reasons = {(row.values["width"], row.values["l2"]): row.reason for row in rows(search)}
    assert reasons[8, 0.1] == ""
    assert reasons[11, 0.1] == "ValueError: width is 11, which this recipe cannot do"
    assert reasons[8, 3e38].startswith("TrainingDivergedError: the last ")
    assert len(list(tmp_path.glob("trials/*/error.txt"))) >= 2


def test_a_trial_that_is_worse_than_the_others_is_pruned(undisturbed, tmp_path):
    options = {"pruner": "median", "sampler": "random", "shared": undisturbed.shared}
    search = toy_search(tmp_path, **options)
    search.run(9)
    pruned = [row for row in rows(search) if row.state == "pruned"]
    assert pruned
    assert all(row.epochs == 1 and math.isfinite(row.value) for row in pruned)


def test_another_config_is_refused(tmp_path):
    toy_study(tmp_path)
    with pytest.raises(ValueError, match=r"started with another config:\n  epochs: 2 -> 3"):
        toy_study(tmp_path, config=toy_run_config(epochs=3))


def test_integers_and_choices_of_any_type_come_back_as_they_are(tmp_path):
    options = ((1, 2), None, 0.5)
    space = Space({"width": Int(4, 12, step=4), "optim.frozen": Choice(options)})
    study = toy_study(tmp_path, space)
    for claimed in study.draw(4, 4):
        values = claimed.values
        assert values["width"] in (4, 8, 12)
        assert values["optim.frozen"] in options
    assert set(NUMBERS.parameters).isdisjoint(values)
