"""A search whose trials train together: the results of trials one after another, bit for bit."""

import dataclasses
import importlib
import itertools
import json
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
from test_search import outcomes, rows
from toy_search import toy_run_config, toy_search

from jaxrecipes.checkpoint import CheckpointManager
from jaxrecipes.population.chunks import Chunks
from jaxrecipes.train.fit import fit
from jaxrecipes.train.outcome import end_epoch
from jaxrecipes.tune.space import Choice, Space

train_fit = importlib.import_module("jaxrecipes.train.fit")
HISTORY = ("epoch", "step", "train", "val", "hparams", "num_skipped")


def history(folder):
    entries = json.loads((folder / "history.json").read_text())
    return [{name: entry[name] for name in HISTORY} for entry in entries]


def states_equal(*runs):
    states = []
    for run in runs:
        with CheckpointManager(run / "checkpoints") as checkpoints:
            step = checkpoints.latest_step
            shapes = checkpoints.shapes(step)
            states.append(checkpoints.restore(shapes, step=step, partial=True).tree)
    assert states[0].keys() == states[1].keys()
    for path, leaf in states[0].items():
        assert np.asarray(leaf).tobytes() == np.asarray(states[1][path]).tobytes(), path


@pytest.fixture(scope="module")
def random_search(tmp_path_factory):
    """Seven trials, three at a time."""
    search = toy_search(
        tmp_path_factory.mktemp("population"),
        sampler="random",
        together={"population": 3, "keep_all": True},
    )
    assert search.run(7)
    return search


def test_members_compile_one_program_to_train_and_one_to_evaluate(random_search):
    assert random_search.shared.num_programs == 1
    for row in rows(random_search):
        summary = random_search.study.workdir / row.folder / "summary.json"
        assert json.loads(summary.read_text())["compilations"] == {"train": 1, "eval": 1}


def test_a_member_is_the_run_that_train_makes_of_its_config(random_search, tmp_path):
    row = rows(random_search)[4]
    folder = random_search.study.workdir / row.folder
    config = random_search.space.config(toy_run_config(), row.values)
    data = random_search.shared.data(config)
    fit(random_search.shared.recipe(config), data, config, tmp_path)
    assert history(tmp_path) == history(folder)
    states_equal(tmp_path, folder)


def test_the_number_of_lanes_changes_no_result(random_search, tmp_path):
    search = toy_search(
        tmp_path, sampler="random", shared=random_search.shared, together={"population": 7}
    )
    search.run(7)
    assert outcomes(search) == outcomes(random_search)


@pytest.fixture(scope="module")
def pruned_search(tmp_path_factory, random_search):
    """Draws and decisions that depend on what came out before."""
    search = toy_search(
        tmp_path_factory.mktemp("pruned"),
        shared=random_search.shared,
        sampler="tpe",
        pruner="asha",
        together={"population": 3},
    )
    assert search.run(8)
    return search


def goes_on_as_undisturbed(tmp_path, pruned_search):
    search = toy_search(
        tmp_path,
        shared=pruned_search.shared,
        sampler="tpe",
        pruner="asha",
        together={"population": 3},
    )
    search.run(8)
    assert outcomes(search) == outcomes(pruned_search)
    assert {row.state for row in rows(search)} == {"complete", "pruned"}


def test_a_population_that_is_killed_ends_as_if_undisturbed(pruned_search, tmp_path):
    worker = pathlib.Path(__file__).with_name("search_worker.py")
    killed = subprocess.run([sys.executable, worker, tmp_path, "5", "population"], check=False)
    assert killed.returncode == -signal.SIGKILL
    goes_on_as_undisturbed(tmp_path, pruned_search)


@pytest.mark.parametrize("epochs", [1, 3, 8])
def test_wherever_it_stops_it_ends_as_if_undisturbed(pruned_search, tmp_path, monkeypatch, epochs):
    count = itertools.count(1)

    def then_stop(*arguments):
        position = end_epoch(*arguments)
        if next(count) == epochs:
            raise KeyboardInterrupt
        return position

    monkeypatch.setattr(train_fit, "end_epoch", then_stop)
    with pytest.raises(KeyboardInterrupt):
        goes_on_as_undisturbed(tmp_path, pruned_search)
    monkeypatch.undo()
    goes_on_as_undisturbed(tmp_path, pruned_search)


def test_a_diverging_member_fails_alone_with_its_own_batch(random_search, tmp_path):
    space = Space({"l2": Choice((0.1, 3e38))})
    loop = dataclasses.replace(toy_run_config().loop, max_skipped_in_row=3)
    config = toy_run_config(loop=loop)
    options = {"sampler": "grid", "shared": random_search.shared, "config": config}
    search = toy_search(tmp_path, space, together={"population": 3}, **options)
    search.run(3)
    assert [row.state for row in rows(search)] == ["complete", "complete", "failed"]
    failed = rows(search)[2]
    assert failed.reason.startswith("TrainingDivergedError: the last ")
    (batch,) = tmp_path.glob("trials/*/nonfinite_batch.npz")
    assert batch.parent == tmp_path / failed.folder
    alone = toy_search(tmp_path / "alone", space, together={"population": 1}, **options)
    alone.run(2)
    assert outcomes(alone) == outcomes(search)[:2]


def test_halving_compares_the_members_of_a_population(random_search, tmp_path):
    search = toy_search(
        tmp_path,
        sampler="random",
        pruner="halving",
        shared=random_search.shared,
        together={"population": 6, "eta": 3},
    )
    search.run(6)
    found = rows(search)
    assert [row.state for row in found].count("pruned") == 4
    after_one = [history(tmp_path / row.folder)[0]["val"]["loss_ema"] for row in found]
    best = sorted(range(6), key=after_one.__getitem__)[:2]
    assert sorted(best) == [row.number for row in found if row.state == "complete"]


def test_a_grid_takes_every_combination_once(tmp_path):
    study = toy_search(tmp_path, Space({"width": Choice((4, 6, 8))}), sampler="grid").study
    drawn = study.draw(9, 9)
    assert [claimed.values["width"] for claimed in drawn] == [8, 4, 6, 8]


def test_chunks_agree_with_exact_runs_and_repeat_their_own_bits(random_search, tmp_path):
    for folder, chunk in (("first", 2), ("second", 2)):
        search = toy_search(
            tmp_path / folder,
            sampler="random",
            together={"population": 3, "trainer": Chunks(chunk)},
        )
        search.run(3)
    first, second = (history(tmp_path / folder / "trials/0002") for folder in ("first", "second"))
    assert first == second
    exact = history(random_search.study.workdir / "trials/0002")
    assert first[0]["val"]["loss_ema"] == pytest.approx(exact[0]["val"]["loss_ema"], rel=1e-4)
    summary = json.loads((tmp_path / "first/trials/0002/summary.json").read_text())
    assert summary["compilations"] == {"train": 1, "eval": 1}


def test_seeds_make_a_trial_the_mean_of_its_runs(random_search, tmp_path):
    search = toy_search(tmp_path, shared=random_search.shared, together={"seeds": 2})
    search.run(1)
    (row,) = rows(search)
    runs = [tmp_path / row.folder, tmp_path / row.folder / "seed_1"]
    best = [min(entry["val"]["loss_ema"] for entry in history(run)) for run in runs]
    assert best[0] != best[1]
    assert row.value == sum(best) / 2
    assert json.loads((runs[1] / "config.json").read_text())["seed"] == toy_run_config().seed + 1
