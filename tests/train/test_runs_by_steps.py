"""Runs that are counted in steps: their validations, what they log, what evaluation sees."""

import dataclasses
import json
import logging

import numpy as np
import pytest
from toy_recipe import toy_arrays, toy_config, toy_fit, toy_recipe

from jaxrecipes.data.order import evaluation_batches
from jaxrecipes.metrics import Mean
from jaxrecipes.train.config import DataConfig, LoopConfig, OptimConfig, RunConfig
from jaxrecipes.train.hparams import learning_rate_schedule

LOOP = LoopConfig(steps_per_call=3, log_every_steps=4, validate_every_steps=5, compilation_cache="")


def shifted(batch):
    return batch | {"x": batch["x"] + 100.0}


@pytest.fixture(scope="module")
def by_steps(tmp_path_factory):
    """12 steps, validated every 5 on other 6 examples each time, with a line every 4."""
    workdir, lines = tmp_path_factory.mktemp("run"), []
    data = DataConfig(batch_size=8, eval_batch_size=4, val_examples_per_pass=6)

    def metrics(outputs, batch, hparams):
        return {"first": Mean.from_values(batch["x"][:, 0], batch.get("mask"))}

    recipe = toy_recipe(
        ema=False,
        preprocess=shifted,
        predictions=lambda outputs, batch: {"logits": outputs, "first": batch["x"][:, 0]},
        step_metrics=("first",),
        log_line=lambda step, steps, values: f"{step}/{steps} first={values['first']:.3f}",
    )
    recipe = dataclasses.replace(recipe, metrics=metrics)
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("jaxrecipes")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        finished = toy_fit(workdir, recipe, config=toy_config(steps=12, data=data, loop=LOOP))
    finally:
        logger.removeHandler(handler)
    return json.loads((workdir / "history.json").read_text()), finished, lines


def test_validations_come_every_so_many_steps_and_at_the_end(by_steps):
    history, _, _ = by_steps
    assert [(e["epoch"], e["step"]) for e in history] == [(1, 5), (2, 10), (3, 12)]


def test_a_recipe_has_its_own_line_at_every_log_point(by_steps):
    *_, lines = by_steps
    assert [line.split()[0] for line in lines if "first=" in line] == [
        *("4/12", "5/12", "8/12", "10/12", "12/12")
    ]


def test_each_validation_draws_other_examples_of_the_preprocessed_ones(by_steps):
    history, finished, _ = by_steps
    first = toy_arrays(20, seed=1)["x"][:, 0].astype(np.float64)
    for entry in history:
        rows = np.random.default_rng([42, entry["step"]]).permutation(20)[:6]
        assert entry["val"]["first"] == pytest.approx(first[rows].mean() + 100.0, rel=1e-6)
    # What the best weights are reported with is the whole split.
    assert finished.val.metrics["first"] == pytest.approx(first.mean() + 100.0, rel=1e-6)
    np.testing.assert_allclose(finished.val.outputs["first"], first + 100.0, rtol=1e-6)
    assert finished.val.outputs["logits"].shape == (20,)


def test_chosen_rows_are_evaluated_in_their_order():
    batches = list(evaluation_batches(9, 2, rows=np.array([7, 3, 8])))
    assert [b.tolist() for b, _ in batches] == [[7, 3], [8, 0]]
    assert [m.tolist() for _, m in batches] == [[1.0, 1.0], [1.0, 0.0]]


def test_a_warm_up_in_steps_and_part_of_a_wave():
    """0.4 of a wave: the run ends at 9.55 % of its peak."""
    config = RunConfig(
        steps=100_000,
        optim=OptimConfig(
            learning_rate=1e-4,
            schedule="warmup_cosine(rate, warmup_steps=5000, total_steps=run, num_cycles=0.4)",
        ),
    )
    rate = learning_rate_schedule(config, 3000)
    got = [rate(step) for step in (0, 2500, 5000, 100_000)]
    np.testing.assert_allclose(got, [0.0, 5e-5, 1e-4, 0.0954915e-4], rtol=1e-5)


@pytest.mark.parametrize("name", ["validate_every_steps", "checkpoint_every_steps"])
def test_intervals_of_no_steps_are_refused(name):
    with pytest.raises(ValueError, match=name):
        LoopConfig(**{name: 0})
