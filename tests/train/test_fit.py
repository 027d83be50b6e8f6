import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest
from toy_recipe import toy_arrays, toy_config, toy_fit, toy_hparams, toy_recipe

from jaxrecipes.interrupt import Interrupt
from jaxrecipes.plateau import EarlyStopping, ReduceLROnPlateau
from jaxrecipes.train.config import EarlyStoppingConfig, OptimConfig
from jaxrecipes.train.nonfinite import TrainingDivergedError
from jaxrecipes.train.outcome import end_epoch

ALLOWED = {"allow_config_change": True, "allow_data_change": True}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    return workdir, toy_fit(workdir)


def history(workdir):
    return json.loads((workdir / "history.json").read_text())


def metrics_of(workdir):
    return [
        {k: e[k] for k in ("epoch", "step", "train", "val", "hparams")} for e in history(workdir)
    ]


def assert_same_weights(left, right):
    for a, b in zip(
        jax.tree.leaves((left.params, left.batch_stats)),
        jax.tree.leaves((right.params, right.batch_stats)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_a_run_leaves_history_and_summary(undisturbed):
    workdir, finished = undisturbed
    entries = history(workdir)
    assert [(e["epoch"], e["step"]) for e in entries] == [(1, 8), (2, 16), (3, 24)]
    assert {"loss", "loss/bce", "loss/l2", "accuracy", "f1", "loss_ema", "f1_ema"} <= entries[0][
        "val"
    ].keys()
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["compilations"] == {"train": 1, "eval": 1}
    best = min(entries, key=lambda e: e["val"]["loss_ema"])
    assert summary["best"]["step"] == best["step"]
    assert summary["final"]["step"] == 24
    assert finished.val.metrics["loss"] == pytest.approx(best["val"]["loss_ema"], rel=1e-6)
    assert list((workdir / "tensorboard").iterdir())


@pytest.mark.parametrize("after_calls", [1, 3, 5])
def test_an_interrupted_run_goes_on_bit_for_bit(undisturbed, tmp_path, monkeypatch, after_calls):
    """3 and 5 stop at an epoch's end and in its middle, where the metric sums are saved too."""
    calls = iter(range(100))
    monkeypatch.setattr(Interrupt, "requested", lambda self: next(calls) >= after_calls)
    assert toy_fit(tmp_path) is None
    assert not (tmp_path / "summary.json").exists()
    monkeypatch.undo()
    finished = toy_fit(tmp_path)
    assert metrics_of(tmp_path) == metrics_of(undisturbed[0])
    assert_same_weights(finished, undisturbed[1])


def test_a_run_that_dies_goes_on_bit_for_bit(undisturbed, tmp_path, monkeypatch):
    def dies(run, position, programs):
        if position.step == 16:
            raise KeyboardInterrupt
        return end_epoch(run, position, programs)

    monkeypatch.setattr("jaxrecipes.train.fit.end_epoch", dies)
    with pytest.raises(KeyboardInterrupt):
        toy_fit(tmp_path)
    monkeypatch.undo()
    finished = toy_fit(tmp_path)
    assert metrics_of(tmp_path) == metrics_of(undisturbed[0])
    assert_same_weights(finished, undisturbed[1])


def test_a_finished_run_only_reports_again(undisturbed):
    workdir, first = undisturbed
    again = toy_fit(workdir)
    assert again.summary["best"] == first.summary["best"]
    assert len(history(workdir)) == 3


def test_another_config_needs_the_flag_and_says_what_changed(tmp_path):
    toy_fit(tmp_path, config=toy_config(epochs=1))
    longer = toy_config(epochs=2, optim=OptimConfig(learning_rate=0.5))
    with pytest.raises(ValueError, match=r"epochs: 1 -> 2\n  optim.learning_rate: 0.001 -> 0.5"):
        toy_fit(tmp_path, config=longer)
    recipe = toy_recipe(hparams=toy_hparams(**{"loss_weight/l2": 0.7}))
    toy_fit(tmp_path, recipe, config=longer, allow_config_change=True)
    entries = history(tmp_path)
    assert [e["step"] for e in entries] == [8, 16]
    assert [e["hparams"]["loss_weight/l2"] for e in entries] == [
        pytest.approx(0.1),
        pytest.approx(0.7),
    ]


def test_the_plateau_keeps_its_reductions_under_a_new_learning_rate(tmp_path):
    plateau = ReduceLROnPlateau(
        factor=0.5, patience=0, threshold=1e9
    )  # only the first value is ever good enough
    toy_fit(tmp_path, toy_recipe(plateau=plateau), config=toy_config(epochs=2))
    assert history(tmp_path)[-1]["hparams"]["learning_rate"] == pytest.approx(0.025)
    recipe = toy_recipe(plateau=plateau, hparams=toy_hparams(learning_rate=0.4))
    toy_fit(tmp_path, recipe, config=toy_config(epochs=3), allow_config_change=True)
    assert history(tmp_path)[-1]["hparams"]["learning_rate"] == pytest.approx(0.4 / 4)


def test_the_plateau_sees_nothing_of_the_warmup(tmp_path):
    plateau = ReduceLROnPlateau(factor=0.5, patience=0, threshold=1e9)
    toy_fit(tmp_path, toy_recipe(plateau=plateau, warmup_steps=8))
    rates = [e["hparams"]["learning_rate"] for e in history(tmp_path)]
    np.testing.assert_allclose(rates, [0.05, 0.05, 0.025], rtol=1e-6)


def test_a_checkpoint_of_another_recipe_is_refused(undisturbed):
    other = dataclasses.replace(toy_recipe(), name="other")
    with pytest.raises(ValueError, match="holds a run of the recipe 'toy', not of 'other'"):
        toy_fit(undisturbed[0], other)


def test_a_checkpoint_of_another_shape_is_refused(undisturbed):
    with pytest.raises(
        ValueError, match=r"hidden/kernel: float32\[6,8\] in the checkpoint, float32\[6,9\] wanted"
    ):
        toy_fit(undisturbed[0], toy_recipe(width=9))


def test_early_stopping_ends_the_run_and_stays_ended(tmp_path):
    stopping = EarlyStopping(patience=1, min_delta=1e9)
    config = toy_config(early_stopping=EarlyStoppingConfig(patience_epochs=1, min_delta=1e9))
    recipe = toy_recipe(early_stopping=stopping)
    first = toy_fit(tmp_path, recipe, config=config)
    assert first.summary["stopped_early"]
    again = toy_fit(tmp_path, recipe, config=config)
    assert len(history(tmp_path)) == again.summary["final"]["epoch"] < 3


def test_the_epoch_that_stops_a_run_may_be_kept_from_being_the_best(tmp_path):
    losses = iter([1.0, 1.0, 0.9, 0.9, 0.8, 0.8])  # raw and EMA, epoch by epoch
    recipe = toy_recipe(
        early_stopping=EarlyStopping(patience=2, min_delta=0.5),
        pass_metrics=lambda outputs, arrays: {"loss": next(losses, 0.0)},
    )
    stopping = EarlyStoppingConfig(patience_epochs=2, min_delta=0.5, save_stopping_epoch=False)
    summary = toy_fit(tmp_path, recipe, config=toy_config(early_stopping=stopping)).summary
    assert (summary["best"]["epoch"], summary["final"]["epoch"]) == (2, 3)


def test_more_patience_goes_on_with_a_run_that_was_stopped(tmp_path):
    for patience, epochs in ((1, 2), (3, 3)):
        stopping = EarlyStoppingConfig(patience_epochs=patience, min_delta=1e9)
        recipe = toy_recipe(early_stopping=EarlyStopping(patience=patience, min_delta=1e9))
        config = toy_config(early_stopping=stopping)
        toy_fit(tmp_path, recipe, config=config, allow_config_change=True)
        assert history(tmp_path)[-1]["epoch"] == epochs


def test_a_signal_that_comes_too_late_to_stop_the_run_is_told(undisturbed, tmp_path):
    def after_epoch(history):
        if len(history) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    finished = toy_fit(tmp_path, after_epoch=after_epoch)
    assert finished.interrupted
    assert not undisturbed[1].interrupted


class Recorder:
    """A writer that keeps the tags, and whether it was closed."""

    def __init__(self):
        self.tags, self.closed = set(), False

    def scalars(self, step, values):
        self.tags |= set(values)

    def close(self):
        self.closed = True


def test_a_recipe_names_its_tags_for_every_writer(tmp_path):
    writer = Recorder()
    recipe = toy_recipe(tag=str.upper)
    toy_fit(tmp_path, recipe, config=toy_config(epochs=1), writers=[writer])
    assert {"TRAIN/LOSS", "HPARAMS/LEARNING_RATE", "EPOCH/LOSS", "VAL/LOSS_EMA"} <= writer.tags
    assert writer.closed


def test_a_run_that_diverges_stops_dumps_the_batch_and_keeps_the_checkpoint(tmp_path):
    toy_fit(tmp_path, config=toy_config(epochs=1))
    arrays = toy_arrays()
    arrays["x"][:] = np.nan
    config = toy_config()
    config = dataclasses.replace(
        config, loop=dataclasses.replace(config.loop, max_skipped_in_row=3)
    )
    with pytest.raises(TrainingDivergedError, match=r"last 4 steps.*nonfinite_batch.npz"):
        toy_fit(tmp_path, config=config, arrays=arrays, **ALLOWED)
    with np.load(tmp_path / "nonfinite_batch.npz") as dump:
        assert np.isnan(dump["x"]).all()
        assert dump["label"].shape == (8,)
    good = toy_fit(tmp_path, config=toy_config(), **ALLOWED)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(good.params))


def test_a_nan_metric_does_not_become_the_best(tmp_path):
    recipe = toy_recipe(pass_metrics=lambda outputs, arrays: {"score": next(scores)})
    scores = iter(
        [0.5, 0.9, float("nan"), float("nan"), 0.7, 0.6, 0, 0]
    )  # raw and EMA, epoch by epoch
    config = toy_config(select_metric="score", select_mode="max")
    finished = toy_fit(tmp_path, recipe, config=config)
    assert finished.summary["best"]["epoch"] == 1
    assert history(tmp_path)[1]["val"]["score_ema"] is None


def test_a_run_without_validation_selects_by_the_training_metrics(tmp_path):
    finished = toy_fit(tmp_path, val=False)
    assert finished.summary["selected_by"] == "loss"
    assert finished.val is None
    assert finished.summary["final"]["loss"] == history(tmp_path)[-1]["train"]["loss"]
