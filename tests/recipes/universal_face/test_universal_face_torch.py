"""Runs of the original universal face program become runs of ours, and go back."""

import jax
import numpy as np
import pytest

from jaxrecipes.recipes.universal_face.original import export_torch, import_torch
from jaxrecipes.recipes.universal_face.original_checkpoint import read_checkpoint, write_checkpoint
from jaxrecipes.runs.trained import open_trained

ORIGINAL = "universal_face/original_checkpoint_epoch_10.pth"


@pytest.fixture(scope="module")
def runs(golden, tmp_path_factory):
    """The original's run, and the same after a way back and forth with projections in the file."""
    folder = tmp_path_factory.mktemp("runs")
    import_torch(golden.path / ORIGINAL, folder / "first")
    export_torch(open_trained(folder / "first"), folder / "back.pth")
    import_torch(folder / "back.pth", folder / "second")
    return folder


def test_the_run_goes_on_with_the_originals_numbers(golden, runs):
    trained = open_trained(runs / "first")
    config, checkpoint = trained.config, read_checkpoint(golden.path / ORIGINAL)
    assert (trained.step, config.data.batch_size, config.epochs) == (60, 4, 10)
    assert (config.loss.lambda_id, config.loss.temperature, config.loss.protection_margin) == (
        *(3.0, 0.1),
        0.01,
    )
    assert (config.optim.schedule, config.plateau.mode) == ("plateau", "max")
    assert config.plateau.monitor == "cosine_similarity"
    assert float(trained.hparams["learning_rate"]) == pytest.approx(0.001)
    mu = trained.state.opt_state[0].mu
    np.testing.assert_array_equal(
        mu["pose_head"]["out"]["kernel"], checkpoint.optimizer.mu["pose_head"]["out"]["kernel"]
    )


def test_a_best_cosine_of_lost_projections_is_forgotten(runs):
    trained = open_trained(runs / "first")
    assert float(trained.state.plateau.best) == -np.inf
    assert trained.metadata["history"][0]["val"] == {}


def test_a_run_comes_back_to_the_bit_with_projections_and_their_moments(runs):
    first, second = open_trained(runs / "first"), open_trained(runs / "second")
    jax.tree.map(np.testing.assert_array_equal, first.state.params, second.state.params)
    jax.tree.map(np.testing.assert_array_equal, first.state.opt_state, second.state.opt_state)
    assert not read_checkpoint(runs / "back.pth").projections_drawn
    first_loss, second_loss = first.config.loss, second.config.loss
    assert first_loss == second_loss


def test_a_best_cosine_that_belongs_to_the_projections_goes_on(golden, tmp_path):
    write_checkpoint(tmp_path / "x.pth", read_checkpoint(golden.path / ORIGINAL))
    import_torch(tmp_path / "x.pth", tmp_path / "run")
    trained = open_trained(tmp_path / "run")
    assert float(trained.state.plateau.best) == pytest.approx(0.11582601815462112)
    assert trained.metadata["history"][0]["val"]["cosine_similarity"] == pytest.approx(0.115826018)


def test_a_file_from_before_the_adjustment_has_its_loss(golden, tmp_path):
    checkpoint = read_checkpoint(golden.path / ORIGINAL)
    for name in ("lambda_similarity_protection", "temperature"):
        del checkpoint.args[name]
    write_checkpoint(tmp_path / "x.pth", checkpoint)
    import_torch(tmp_path / "x.pth", tmp_path / "run")
    loss = open_trained(tmp_path / "run").config.loss
    assert loss.lambda_similarity_protection == 0.5
    assert (loss.temperature, loss.protection_margin) == (0.07, 0.0)
