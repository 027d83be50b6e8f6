"""Runs that start from another run's weights: `init_from`, and two stages in one command."""

import dataclasses
import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from script_runs import ROOT, assert_same_end, metrics_by_epoch, read_json

from jaxrecipes.config import diff, to_dict
from jaxrecipes.interrupt import Interrupt
from jaxrecipes.optim import leaves_by_path
from jaxrecipes.recipes import ocec
from jaxrecipes.runs.init_from import check_one_stage, first_stage_config, with_init_from
from jaxrecipes.runs.trained import open_trained
from jaxrecipes.train.recipe import DataInfo
from jaxrecipes.train.state import create_state, starting_weights


@pytest.fixture(scope="module")
def source(trained):
    return open_trained(trained[0])


def make(source, trained, **changes):
    """(recipe, config) of a run that starts from `trained`."""
    config = dataclasses.replace(source.config, init_from=str(trained[0]), **changes)
    return with_init_from(
        ocec.make_recipe(config, DataInfo(steps_per_epoch=8)), config.init_from
    ), config


@pytest.fixture
def said(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("jaxrecipes"), "propagate", True)
    caplog.set_level(logging.INFO, "jaxrecipes")
    return caplog


def test_the_averaged_weights_of_the_best_step_are_taken_and_the_rest_is_fresh(
    source, trained, said
):
    recipe, _ = make(source, trained)
    create = jax.jit(lambda key, given: create_state(recipe, key, given=given))
    state = create(jax.random.key(1), starting_weights(recipe))
    params, batch_stats = source.weights("ema")
    jax.tree.map(np.testing.assert_array_equal, state.params, params)
    jax.tree.map(np.testing.assert_array_equal, state.ema_params, params)
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, batch_stats)
    assert int(state.step) == 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.opt_state))
    count = len(jax.tree.leaves((params, batch_stats)))
    assert f"(ocec, step {source.step}): {count} of {count} taken" in said.text
    assert "drawn" not in said.text


def test_what_does_not_fit_is_drawn_and_told(source, trained, said):
    deeper = dataclasses.replace(source.config.model, num_blocks=2)
    recipe, _ = make(source, trained, model=deeper)
    given = {f"params/{path}" for path in leaves_by_path(starting_weights(recipe)[0])}
    shapes, _ = jax.eval_shape(recipe.init, jax.random.key(0))
    left = {f"params/{path}" for path in leaves_by_path(shapes)} - given
    assert given
    assert left
    (drawn,) = (r.message for r in said.records if r.message.startswith("  drawn: "))
    assert min(left) in drawn


def test_what_is_frozen_as_it_is_drawn_is_warned_of(source, trained, said):
    deeper = dataclasses.replace(source.config.model, num_blocks=2)
    optim = dataclasses.replace(source.config.optim, frozen=("^blocks_",))
    recipe, _ = make(source, trained, model=deeper, optim=optim)
    starting_weights(recipe)
    (told,) = (r for r in said.records if r.levelname == "WARNING")
    assert told.message.startswith("  frozen as they are drawn: blocks_1/")
    assert "blocks_0/" not in told.message


def test_nothing_that_fits_and_a_wrong_folder_are_errors(source, trained, tmp_path):
    recipe, config = make(source, trained)
    other = dataclasses.replace(recipe, init=lambda key: ({"other": jnp.zeros(3)}, {}))
    with pytest.raises(ValueError, match=r"no weights of .* fit; there .* here params/other"):
        starting_weights(other)
    config = dataclasses.replace(config, init_from=str(tmp_path))
    with pytest.raises(ValueError, match="give the folder of a run"):
        starting_weights(with_init_from(recipe, config.init_from))


def test_a_run_of_before_has_no_other_config(source):
    new, old = to_dict(source.config), to_dict(source.config)
    del old["init_from"], old["first_stage"]
    assert diff(old, new) == []


def test_a_command_of_one_stage_refuses_a_first_stage_and_says_how_to_do_without(source):
    config = dataclasses.replace(source.config, first_stage={"epochs": "1"})
    with pytest.raises(ValueError, match="tune trains one stage: give --first_stage None"):
        check_one_stage(config, "tune")


def test_the_first_stage_is_the_config_under_its_flags(source):
    flags = {"optim.learning_rate": "1e-2", "data.image_size": "8 8", "ema.no-enabled": ""}
    config = dataclasses.replace(source.config, first_stage=flags)
    staged = first_stage_config(config)
    assert staged.optim.learning_rate == 1e-2
    assert staged.data.image_size == (8, 8)
    assert not staged.ema.enabled
    assert staged.first_stage is None
    assert staged.model == config.model
    wrong = dataclasses.replace(config, first_stage={"optim.lr": "1"})
    with pytest.raises(ValueError, match=r"first_stage: unknown field .*optim.learning_rate"):
        first_stage_config(wrong)


def test_two_stages_are_one_command_that_goes_on_in_either(script, tmp_path, monkeypatch):
    flags = ["--config", ROOT / "examples/noisy_curve.py", "--epochs", 2, "--seed", 1]
    flags += ["--loop.checkpoint_every_steps", 3, "--first_stage", "optim.learning_rate", "0.02"]
    flags += ["--loop.compilation_cache", ""]
    whole, workdir = tmp_path / "whole", tmp_path / "stopped"
    outcome = script("train", *flags, "--workdir", whole)
    assert outcome.code == 0, outcome.err
    assert f"weights of {whole / 'stage1'} (noisy_curve, step " in outcome.err
    rates = [metrics_by_epoch(f)[0]["hparams"]["learning_rate"] for f in (whole / "stage1", whole)]
    assert rates == pytest.approx([0.02, open_trained(whole).config.optim.learning_rate])

    for folder in (workdir / "stage1", workdir):
        first_save = folder / "checkpoints" / "3"
        monkeypatch.setattr(Interrupt, "requested", lambda self, path=first_save: path.exists())
        outcome = script("train", *flags, "--workdir", workdir)
        assert outcome.code == 0, outcome.err
        assert not (folder / "summary.json").exists(), outcome.err
        monkeypatch.undo()
    final = read_json(workdir / "stage1" / "summary.json")["final"]
    assert final == read_json(whole / "stage1" / "summary.json")["final"]
    shutil.rmtree(workdir / "stage1")  # is not needed any more
    outcome = script("train", *flags, "--workdir", workdir)
    assert outcome.code == 0, outcome.err
    assert_same_end(workdir, whole)


def test_a_wrong_flag_of_the_first_stage_is_told_before_anything_is_trained(tiny, script, tmp_path):
    workdir = tmp_path / "run"
    outcome = script("train", *tiny, "--first_stage", "epochs", "0", "--workdir", workdir)
    assert outcome.code == 2
    assert "epochs is 0" in outcome.err
    assert not workdir.exists()


def test_a_schedule_of_the_second_stage_is_checked_before_the_first_is_trained(
    tiny, script, tmp_path
):
    workdir = tmp_path / "run"
    flags = [
        "--first_stage",
        "epochs",
        "2",
        "--optim.weight_decay",
        "ramp(0, -1, end_step=9)",
    ]
    outcome = script("train", *tiny, *flags, "--workdir", workdir)
    assert outcome.code == 2
    assert "weight_decay" in outcome.err.splitlines()[-1]
    assert not (workdir / "stage1").exists()
