"""What is monitored can be compared over a run whose loss weights move."""

import json
import logging

import numpy as np
import pytest
from toy_recipe import toy_config, toy_fit, toy_hparams, toy_recipe

from jaxrecipes import schedules
from jaxrecipes.plateau import EarlyStopping, ReduceLROnPlateau
from jaxrecipes.train.config import EarlyStoppingConfig, PlateauConfig

_STEPS = 24
_RISING = schedules.linear(0.0, 50.0, steps=_STEPS)


def weight_at(step):
    return 50.0 * step / _STEPS


def rising(learning_rate=0.05, **fields):
    hparams = toy_hparams(**{"loss_weight/l2": _RISING}, learning_rate=learning_rate)
    return toy_recipe(hparams=hparams, **fields)


def history(workdir):
    return json.loads((workdir / "history.json").read_text())


@pytest.fixture(scope="module")
def ramped(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("ramped")
    return history_of(workdir, rising())


def history_of(workdir, recipe, **fields):
    toy_fit(workdir, recipe, **fields)
    return history(workdir)


def test_the_validation_loss_has_the_weights_of_the_runs_last_step(ramped):
    for entry in ramped:
        for suffix in ("", "_ema"):
            val = {n: entry["val"][f"{n}{suffix}"] for n in ("loss", "loss_now", "loss/bce")}
            l2 = entry["val"][f"loss/l2{suffix}"]
            assert val["loss"] == pytest.approx(val["loss/bce"] + weight_at(23) * l2, rel=1e-5)
            now = val["loss/bce"] + weight_at(entry["step"] - 1) * l2
            assert val["loss_now"] == pytest.approx(now, rel=1e-5)
    assert ramped[-1]["val"]["loss"] == pytest.approx(ramped[-1]["val"]["loss_now"], rel=1e-5)


def test_the_training_loss_has_them_too_and_what_was_minimised_is_beside_it(ramped):
    for entry in ramped:
        train = entry["train"]
        at_end = train["loss/bce"] + weight_at(23) * train["loss/l2"]
        assert train["loss"] == pytest.approx(at_end, rel=1e-5)
        assert train["loss_now"] < train["loss"]


def test_a_rising_weight_neither_cuts_the_rate_nor_stops_the_run_nor_makes_epoch_1_the_best(
    tmp_path,
):
    recipe = rising(
        0.02,
        ema=False,
        plateau=ReduceLROnPlateau(patience=0),
        early_stopping=EarlyStopping(patience=1),
    )
    config = toy_config(early_stopping=EarlyStoppingConfig(patience_epochs=1))
    finished = toy_fit(tmp_path, recipe, config=config)
    now = [entry["val"]["loss_now"] for entry in history(tmp_path)]
    assert now[0] == min(now)  # what would have been monitored
    losses = [entry["val"]["loss"] for entry in history(tmp_path)]
    assert losses[0] > losses[1] > losses[2]
    assert not finished.summary["stopped_early"]
    assert finished.summary["best"]["epoch"] == 3
    rates = [entry["hparams"]["learning_rate"] for entry in history(tmp_path)]
    np.testing.assert_allclose(rates, 0.02, rtol=1e-6)


def test_constant_weights_leave_names_and_values_as_they_are(tmp_path):
    entry = history_of(tmp_path, toy_recipe(), config=toy_config(epochs=1))[0]
    for part in ("train", "val"):
        metrics = entry[part]
        assert not [name for name in metrics if name.startswith("loss_now")]
        weighed = metrics["loss/bce"] + 0.1 * metrics["loss/l2"]
        assert metrics["loss"] == pytest.approx(weighed, rel=1e-5)


def test_without_validation_the_training_loss_is_monitored_with_the_end_weights(tmp_path):
    finished = toy_fit(tmp_path, rising(), val=False)
    losses = [entry["train"]["loss"] for entry in history(tmp_path)]
    assert finished.summary["best"]["loss"] == pytest.approx(min(losses))


def test_a_terms_own_name_can_be_monitored_and_selected_by(tmp_path, caplog):
    config = toy_config(
        select_metric="loss/l2",
        plateau=PlateauConfig(monitor="loss/l2"),
        early_stopping=EarlyStoppingConfig(patience_epochs=1, monitor="loss/l2", min_delta=1e9),
    )
    recipe = toy_recipe(
        plateau=ReduceLROnPlateau(patience=5),
        early_stopping=EarlyStopping(patience=1, min_delta=1e9),
    )
    with caplog.at_level(logging.INFO, logger="jaxrecipes"):
        finished = toy_fit(tmp_path, recipe, config=config)
    assert finished.summary["selected_by"] == "loss/l2_ema"
    best = history(tmp_path)[0]["val"]["loss/l2_ema"]
    said = f"stopped early after epoch 2: loss/l2_ema was no better than {best:.4g} of epoch 1"
    assert [m for m in caplog.messages if m.startswith(said)]
    assert len(history(tmp_path)) == 2


def test_a_name_that_no_metric_has_is_refused_with_the_nearest(tmp_path):
    config = toy_config(epochs=1, plateau=PlateauConfig(monitor="loss/l3"))
    recipe = toy_recipe(plateau=ReduceLROnPlateau())
    with pytest.raises(ValueError, match=r"unknown metric to watch 'loss/l3_ema'.*loss/l2_ema"):
        toy_fit(tmp_path, recipe, config=config)


def test_the_epoch_line_and_the_history_tell_the_rate_that_the_epoch_used(tmp_path, caplog):
    by_epoch = schedules.every(schedules.step_decay(0.08, step_size=1, gamma=0.5), 8)
    recipe = toy_recipe(hparams=toy_hparams(learning_rate=by_epoch))
    with caplog.at_level(logging.INFO, logger="jaxrecipes"):
        entries = history_of(tmp_path, recipe)
    rates = [entry["hparams"]["learning_rate"] for entry in entries]
    np.testing.assert_allclose(rates, [0.08, 0.04, 0.02], rtol=1e-6)
    lines = [message for message in caplog.messages if message.startswith("epoch ")]
    for line, rate in zip(lines, rates, strict=True):
        assert f"learning rate {rate:.2e}" in line
