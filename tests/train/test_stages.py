import json

import jax
import numpy as np
import pytest
from toy_recipe import toy_batch, toy_config, toy_fit, toy_hparams, toy_recipe

from jaxrecipes import schedules
from jaxrecipes.checkpoint import CheckpointManager
from jaxrecipes.interrupt import Interrupt
from jaxrecipes.optim import late_paths, leaves_by_path
from jaxrecipes.sharding import make_mesh
from jaxrecipes.train import create_state, make_train_step
from jaxrecipes.train.config import OptimConfig
from jaxrecipes.train.recipe import Stage
from jaxrecipes.train.state import with_moments

FROZEN = ("^hidden/", "^norm/")
LATER = (Stage(first_step=8, frozen=("^hidden/",)), Stage(first_step=19, frozen=()))


def plan_run(workdir, **fields):
    recipe = toy_recipe(frozen=FROZEN, later_stages=LATER, ema=False)
    return toy_fit(workdir, recipe, **fields)


def rows(workdir):
    entries = json.loads((workdir / "history.json").read_text())
    return [(e["step"], e["train"], e["val"]) for e in entries]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("plan")
    return workdir, plan_run(workdir)


def test_each_stage_trains_what_its_rules_leave_from_one_program(undisturbed):
    _, finished = undisturbed
    assert finished.summary["compilations"] == {"train": 3, "eval": 1}
    sizes = finished.summary["bytes_per_device"]
    assert sizes["params"] == 4 * finished.summary["num_params"]
    assert sizes["optimizer"] == 2 * sizes["params"] + 4 * 4  # a count, and those of three arrays


@pytest.mark.parametrize("after_calls", [2, 5, 8])
def test_a_plan_that_is_interrupted_in_a_stage_goes_on_bit_for_bit(
    undisturbed, tmp_path, monkeypatch, after_calls
):
    calls = iter(range(100))
    monkeypatch.setattr(Interrupt, "requested", lambda self: next(calls) >= after_calls)
    assert plan_run(tmp_path) is None
    monkeypatch.undo()
    finished = plan_run(tmp_path)
    assert rows(tmp_path) == rows(undisturbed[0])
    jax.tree.map(np.testing.assert_array_equal, finished.params, undisturbed[1].params)


def test_stages_in_the_loop_equal_steps_by_hand():
    recipe = toy_recipe(
        frozen=("^hidden/",), later_stages=(Stage(first_step=2, frozen=()),), ema=False
    )
    state = create_state(recipe, jax.random.key(0))
    first, second = (jax.jit(make_train_step(recipe.stage_at(step))) for step in (0, 2))
    start = state.params["hidden"]["kernel"]
    for seed in range(2):
        state, _ = first(state, toy_batch(seed))
    np.testing.assert_array_equal(state.params["hidden"]["kernel"], start)
    moments = leaves_by_path(state.opt_state)
    state = with_moments(recipe.stage_at(2), state, moments, make_mesh())
    for path, kept in moments.items():
        np.testing.assert_array_equal(leaves_by_path(state.opt_state)[path], kept)
    after, _ = second(state, toy_batch(2))
    # The first update of a tensor under Adam is the learning rate in size, beside the decay.
    step = after.params["hidden"]["kernel"] - start * (1 - 0.05 * 0.01)
    np.testing.assert_allclose(np.abs(step), 0.05, rtol=1e-3)


RESTARTED = toy_hparams(
    learning_rate=schedules.join(
        [schedules.linear(0.0, 0.05, steps=4), schedules.linear(0.0, 0.02, steps=4)], [6]
    )
)


def restarting_run(workdir):
    later = Stage(first_step=6, frozen=("^norm/",), restart=True)
    recipe = toy_recipe(hparams=RESTARTED, frozen=("^hidden/",), later_stages=(later,), ema=False)
    return toy_fit(workdir, recipe, config=toy_config(epochs=2))


@pytest.fixture(scope="module")
def restarted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("restart")
    return workdir, restarting_run(workdir)


def test_with_restart_a_stage_counts_its_own_updates_of_all_parameters(restarted):
    with CheckpointManager(restarted[0] / "checkpoints") as checkpoints:
        shapes, count = checkpoints.shapes(16), "opt_state/0/count"
        saved = checkpoints.restore({count: shapes[count]}, step=16, partial=True).tree
    assert saved[count] == 10
    assert not late_paths(shapes)


@pytest.mark.parametrize(("after_calls", "step"), [(2, 6), (5, 11)])
def test_a_run_that_restarts_goes_on_bit_for_bit_at_a_stages_start_and_within_it(
    restarted, tmp_path, monkeypatch, after_calls, step
):
    calls = iter(range(100))
    monkeypatch.setattr(Interrupt, "requested", lambda self: next(calls) >= after_calls)
    assert restarting_run(tmp_path) is None
    monkeypatch.undo()
    with CheckpointManager(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest_step == step
    finished = restarting_run(tmp_path)
    assert rows(tmp_path) == rows(restarted[0])
    jax.tree.map(np.testing.assert_array_equal, finished.params, restarted[1].params)


def test_rules_that_are_changed_by_hand_keep_the_moments(tmp_path):
    config = toy_config(epochs=1, optim=OptimConfig(frozen=("^hidden/",)))
    toy_fit(tmp_path, toy_recipe(frozen=("^hidden/",)), config=config)
    with CheckpointManager(tmp_path / "checkpoints") as checkpoints:
        before = checkpoints.shapes(8)
    assert not any("/mu/hidden" in path for path in before)
    config = toy_config(epochs=2, optim=OptimConfig(frozen=("^norm/",)))
    other = toy_recipe(frozen=("^norm/",))
    finished = toy_fit(tmp_path, other, config=config, allow_config_change=True)
    assert finished.summary["final"]["step"] == 16
    with CheckpointManager(tmp_path / "checkpoints") as checkpoints:
        after = checkpoints.shapes(16)
        late = "opt_state/0/late/hidden/kernel"
        wanted = {late: after[late], "opt_state/0/count": after[late]}
        counts = checkpoints.restore(wanted, step=16, partial=True).tree
    assert {path: int(count) for path, count in counts.items()} == {
        late: 8,
        "opt_state/0/count": 16,
    }
    assert late_paths(after) == {"hidden/kernel"}
    assert not any("/mu/norm" in path for path in after)
    again = toy_fit(tmp_path, toy_recipe(frozen=("^norm/",)), config=config)
    assert again.summary["final"]["step"] == 16


@pytest.mark.parametrize("starts", [(0,), (5, 5), (7, 3)])
def test_stages_that_are_out_of_order_are_an_error(starts):
    stages = tuple(Stage(first_step=start, frozen=()) for start in starts)
    with pytest.raises(ValueError, match="expected ascending steps above 0"):
        toy_recipe(later_stages=stages)


def test_a_later_stages_misspelt_rule_is_an_error_at_once():
    recipe = toy_recipe(later_stages=(Stage(first_step=50, frozen=("^hiden/",)),))
    with pytest.raises(ValueError, match="hiden"):
        create_state(recipe, jax.random.key(0))
