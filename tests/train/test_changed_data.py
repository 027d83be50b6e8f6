"""Runs that go on with other data, another batch size, another length."""

import dataclasses
import json

import numpy as np
import pytest
from toy_recipe import toy_arrays, toy_config, toy_fit, toy_hparams, toy_recipe

from jaxrecipes.config import to_dict
from jaxrecipes.interrupt import Interrupt
from jaxrecipes.plateau import ReduceLROnPlateau
from jaxrecipes.schedules import linear
from jaxrecipes.train.config import DataConfig
from jaxrecipes.train.resume import config_changes

CONFIG = {"allow_config_change": True}
DATA = {"allow_data_change": True}
LONGER = toy_arrays(128)


def history(workdir):
    return json.loads((workdir / "history.json").read_text())


def positions(workdir):
    return [(entry["epoch"], entry["step"]) for entry in history(workdir)]


def batches_of(size, **fields):
    return toy_config(data=DataConfig(batch_size=size, eval_batch_size=16), **fields)


def stop_after(monkeypatch, calls):
    asked = iter(range(100))
    monkeypatch.setattr(Interrupt, "requested", lambda self: next(asked) >= calls)


def test_other_data_is_refused_and_the_change_named(tmp_path):
    toy_fit(tmp_path, config=toy_config(epochs=1))
    before = (tmp_path / "history.json").read_text()
    relabelled = toy_arrays() | {"label": 1 - toy_arrays()["label"]}
    reversed_rows = {name: array[::-1] for name, array in toy_arrays().items()}
    for arrays, words in (
        (
            LONGER,
            r"train: 64 -> 128 examples, val: as before, steps an epoch: 8 -> 16\. .*--allow_",
        ),
        (relabelled, r"train: other label \(64 examples\)"),
        (reversed_rows, r"train: other label x \(64 examples\)"),
    ):
        with pytest.raises(ValueError, match=words):
            toy_fit(tmp_path, config=toy_config(epochs=1), arrays=arrays)
    assert (tmp_path / "history.json").read_text() == before


def test_a_changed_config_and_changed_data_are_told_at_once(tmp_path):
    toy_fit(tmp_path, config=toy_config(epochs=1))
    with pytest.raises(ValueError, match=r"(?s)epochs: 1 -> 2.*64 -> 128 ex.*--allow_data_change"):
        toy_fit(tmp_path, config=toy_config(epochs=2), arrays=LONGER)


def test_epochs_that_are_done_stay_done_on_longer_data(tmp_path):
    """2 of 4 epochs of 8 steps, then 2 of 16: the rate stands where the half of the run is."""

    def recipe(per_epoch):
        rate = linear(0.04, 0.0, steps=4 * per_epoch)
        return toy_recipe(hparams=toy_hparams(learning_rate=rate))

    config = toy_config(epochs=4)

    def stops(entries):
        if len(entries) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toy_fit(tmp_path, recipe(8), config=config, after_epoch=stops)
    # Stopped once more on the way: what is stored of the change is enough.
    with pytest.raises(KeyboardInterrupt):
        toy_fit(
            tmp_path,
            recipe(16),
            config=config,
            arrays=LONGER,
            **DATA,
            after_epoch=lambda entries: stops(entries[1:]),
        )
    summary = toy_fit(tmp_path, recipe(16), config=config, arrays=LONGER).summary
    assert positions(tmp_path) == [(1, 8), (2, 16), (3, 32), (4, 48)]
    changes = [entry.get("changes") for entry in history(tmp_path)]
    assert changes == [
        None,
        None,
        ["train: 64 -> 128 examples", "val: as before", "steps an epoch: 8 -> 16"],
        None,
    ]
    rates = [entry["hparams"]["learning_rate"] for entry in history(tmp_path)]
    left = [25 / 32, 17 / 32, 17 / 64, 1 / 64]  # of the run, before the last step of each epoch
    np.testing.assert_allclose(rates, 0.04 * np.array(left), rtol=1e-5)
    assert summary["final"]["step"] == 48


def test_missing_examples_leave_the_rest_of_the_epochs(tmp_path):
    toy_fit(tmp_path, config=toy_config(epochs=2))
    half = {name: array[:32] for name, array in toy_arrays().items()}
    toy_fit(tmp_path, config=toy_config(epochs=4), arrays=half, **CONFIG, **DATA)
    assert positions(tmp_path) == [(1, 8), (2, 16), (3, 20), (4, 24)]


def test_a_larger_batch_trains_the_epochs_that_are_left(tmp_path):
    toy_fit(tmp_path, config=batches_of(8, epochs=2))
    toy_fit(tmp_path, config=batches_of(16, epochs=3), **CONFIG)
    assert positions(tmp_path) == [(1, 8), (2, 16), (3, 20)]
    toy_fit(tmp_path, config=batches_of(4, epochs=4), **CONFIG)
    assert positions(tmp_path)[3:] == [(4, 36)]


def test_a_run_counted_in_steps_takes_them_and_counts_its_epochs_on(tmp_path):
    toy_fit(tmp_path, config=batches_of(8, steps=20))
    toy_fit(tmp_path, config=batches_of(16, steps=27), **CONFIG)
    assert positions(tmp_path) == [(1, 8), (2, 16), (3, 20), (4, 24), (5, 27)]


def test_steps_that_are_added_to_a_cut_epoch_are_another_epoch(tmp_path):
    for steps in (12, 20):
        toy_fit(tmp_path, config=toy_config(steps=steps), **CONFIG)
    assert positions(tmp_path) == [(1, 8), (2, 12), (3, 16), (4, 20)]


def test_the_plateau_is_kept_on_other_data(tmp_path):
    plateau = ReduceLROnPlateau(factor=0.5, patience=0, threshold=1e9)
    toy_fit(tmp_path, toy_recipe(plateau=plateau), config=toy_config(epochs=3))
    config = toy_config(epochs=4)
    toy_fit(tmp_path, toy_recipe(plateau=plateau), config=config, arrays=LONGER, **CONFIG, **DATA)
    rates = [entry["hparams"]["learning_rate"] for entry in history(tmp_path)]
    assert rates[-1] == pytest.approx(rates[-2] / 2)


def test_the_best_checkpoint_of_another_length_is_found_again(tmp_path):
    scores = iter([0.1, 0.1, 0.9, 0.9, 0.2, 0.2])
    recipe = toy_recipe(pass_metrics=lambda outputs, arrays: {"score": next(scores, 0.0)})
    fields = {"select_metric": "score", "select_mode": "max"}
    toy_fit(tmp_path, recipe, config=batches_of(8, epochs=2, **fields))
    scores = iter([0.2, 0.2])
    summary = toy_fit(tmp_path, recipe, config=batches_of(16, epochs=3, **fields), **CONFIG).summary
    assert (summary["best"]["epoch"], summary["best"]["step"]) == (2, 16)


def test_an_epoch_in_which_the_config_changes_has_the_metrics_of_all_its_steps(
    tmp_path, monkeypatch
):
    stop_after(monkeypatch, 1)
    assert toy_fit(tmp_path / "run") is None
    monkeypatch.undo()
    rate = toy_config(epochs=1, seed=42)
    toy_fit(tmp_path / "run", config=rate, **CONFIG)
    toy_fit(tmp_path / "whole", config=rate)
    changed, whole = (history(tmp_path / name)[0]["train"] for name in ("run", "whole"))
    assert changed == whole


def test_an_epoch_whose_sums_have_another_structure_says_so(tmp_path, monkeypatch):
    stop_after(monkeypatch, 1)
    assert toy_fit(tmp_path) is None
    monkeypatch.undo()
    less = dataclasses.replace(toy_recipe(), metrics=lambda outputs, batch, hparams: {})
    toy_fit(tmp_path, less, config=toy_config(epochs=1), **CONFIG)
    assert any("of what follows the change" in line for line in history(tmp_path)[0]["changes"])


def test_a_run_that_a_changed_config_ends_in_mid_epoch_is_validated_there(tmp_path, monkeypatch):
    stop_after(monkeypatch, 2)
    assert toy_fit(tmp_path, config=toy_config(steps=24)) is None
    monkeypatch.undo()
    finished = toy_fit(tmp_path, config=toy_config(steps=5), **CONFIG)
    assert positions(tmp_path) == [(1, 7)]
    assert finished.summary["final"]["step"] == 7


def test_scores_on_other_examples_do_not_compete(tmp_path, monkeypatch):
    recipe = toy_recipe(
        pass_metrics=lambda outputs, arrays: {"score": next(scores)},
        plateau=ReduceLROnPlateau(factor=0.5, patience=0, mode="max", threshold=1e9),
    )
    fields = {"select_metric": "score", "select_mode": "max"}
    scores = iter([0.9] * 6)
    toy_fit(tmp_path, recipe, config=toy_config(epochs=2, **fields))
    other = toy_arrays(20, seed=5)
    monkeypatch.setattr("toy_recipe.toy_arrays", lambda *a, **k: other)
    scores = iter([0.1, 0.2, 0.1, 0.1, 0.1, 0.1])
    finished = toy_fit(
        tmp_path,
        recipe,
        config=toy_config(epochs=4, **fields),
        arrays=toy_arrays(),
        **CONFIG,
        **DATA,
    )
    summary = finished.summary
    assert (summary["best"]["epoch"], summary["best"]["score_ema"]) == (3, 0.2)


def test_another_metric_to_select_by_begins_with_its_own_scores(tmp_path):
    toy_fit(tmp_path, config=toy_config(epochs=2))
    config = toy_config(epochs=3, select_metric="accuracy", select_mode="max")
    summary = toy_fit(tmp_path, config=config, **CONFIG).summary
    assert summary["best"]["epoch"] == 3


def test_a_field_that_is_newer_than_the_run_is_no_change_of_its_config():
    config = toy_config()
    stored = to_dict(config)
    del stored["loop"]["keep_freed_memory"]
    stored["loop"]["steps_per_call"] = 4  # how fast a run is, not what it trains
    assert config_changes(stored, config) == []
    stored["optim"]["b1"] = 0.8
    assert config_changes(stored, config) == ["optim.b1: 0.8 -> 0.9"]
