"""Population based training in a search, and the one run that its winner amounts to."""

import importlib
import itertools
import json

import pytest
from test_search import outcomes, rows
from test_search_population import history, states_equal
from toy_search import NUMBERS, toy_run_config, toy_search

from jaxrecipes.train.fit import fit
from jaxrecipes.train.outcome import end_epoch
from jaxrecipes.tune.exchange import Exchange

train_fit = importlib.import_module("jaxrecipes.train.fit")
CONFIG = toy_run_config(epochs=4)


def pbt_search(workdir, shared=None):
    workdir.mkdir(parents=True, exist_ok=True)
    exchange = Exchange(workdir, CONFIG, NUMBERS, every_epochs=1, seed=1)
    return toy_search(
        workdir,
        config=CONFIG,
        sampler="random",
        pruner="pbt",
        shared=shared,
        together={"population": 4, "exchange": exchange, "keep_all": True},
    )


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    search = pbt_search(tmp_path_factory.mktemp("pbt"))
    assert search.run(4)
    return search


def moves(search):
    return json.loads((search.study.workdir / "moves.json").read_text())


def test_the_worst_goes_on_from_the_best_after_each_epoch_but_the_last(searched):
    found = moves(searched)
    assert [move["step"] for move in found] == [8, 16, 24]
    assert searched.shared.num_programs == 1
    at = [[] for _ in range(3)]
    for row in rows(searched):
        trial = searched.study.study.trials[row.number]
        for epoch in range(3):
            at[epoch].append(trial.intermediate_values[epoch + 1])
    for move, scores in zip(found, at, strict=True):
        assert move["source"] == scores.index(min(scores))
        assert move["member"] == scores.index(max(scores))


def test_a_member_that_moved_is_one_run_of_its_config(searched, tmp_path):
    member = moves(searched)[-1]["member"]
    folder = searched.study.workdir / rows(searched)[member].folder
    config = searched.configs.at_end(member)
    assert "join((1.0, " in config.optim.learning_rate
    fit(searched.shared.recipe(config), searched.shared.data(config), config, tmp_path)
    assert history(tmp_path) == history(folder)
    assert json.loads((tmp_path / "config.json").read_text()) == json.loads(
        (folder / "config.json").read_text()
    )
    states_equal(tmp_path, folder)


def test_hyperparameters_stay_in_their_ranges(searched):
    for row in rows(searched):
        folder = searched.study.workdir / row.folder
        for entry in history(folder):
            assert 1e-3 * 0.999 <= entry["hparams"]["learning_rate"] <= 1e-1 * 1.001
            assert entry["hparams"]["dropout_rate"] <= 0.5 * 1.001


@pytest.mark.parametrize("epochs", [2, 7, 14])
def test_wherever_it_stops_it_ends_as_if_undisturbed(searched, tmp_path, monkeypatch, epochs):
    count = itertools.count(1)

    def then_stop(*arguments):
        position = end_epoch(*arguments)
        if next(count) == epochs:
            raise KeyboardInterrupt
        return position

    monkeypatch.setattr(train_fit, "end_epoch", then_stop)
    with pytest.raises(KeyboardInterrupt):
        pbt_search(tmp_path, searched.shared).run(4)
    monkeypatch.undo()
    again = pbt_search(tmp_path, searched.shared)
    again.run(4)
    assert outcomes(again) == outcomes(searched)
    assert moves(again) == moves(searched)


def test_a_move_that_was_cut_short_is_carried_out_again(searched, tmp_path, monkeypatch):
    take_over_module = importlib.import_module("jaxrecipes.population.take_over")

    def cut_short(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(take_over_module.shutil, "copytree", cut_short)
    with pytest.raises(KeyboardInterrupt):
        pbt_search(tmp_path, searched.shared).run(4)
    monkeypatch.undo()
    again = pbt_search(tmp_path, searched.shared)
    again.run(4)
    assert outcomes(again) == outcomes(searched)


def test_nothing_to_change_is_said(tmp_path):
    with pytest.raises(ValueError, match="--scheduler pbt changes hyperparameters"):
        Exchange(tmp_path, CONFIG, NUMBERS.without(NUMBERS.parameters), every_epochs=1, seed=0)
