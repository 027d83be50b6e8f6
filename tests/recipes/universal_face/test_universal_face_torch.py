"""Runs of the original universal face program become runs of ours, and go back."""

import jax
import numpy as np
import optax
import pytest

from jaxrecipes.convert import load_torch
from jaxrecipes.recipes.universal_face.original import export_torch, import_torch
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
    config, content = trained.config, load_torch(golden.path / ORIGINAL)
    assert (trained.step, config.data.batch_size, config.epochs) == (60, 4, 10)
    assert (config.loss.lambda_id, config.loss.temperature, config.loss.protection_margin) == (
        *(3.0, 0.1),
        0.01,
    )
    assert (config.optim.schedule, config.plateau.mode) == ("plateau", "max")
    assert config.plateau.monitor == "cosine_similarity"
    assert float(trained.hparams["learning_rate"]) == pytest.approx(0.001)
    mu = optax.tree.get(trained.state.opt_state, "mu")
    moments = content["optimizer_state_dict"]["state"]
    last = moments[max(moments)]["exp_avg"]  # the bias of pose_head's last layer
    np.testing.assert_array_equal(mu["pose_head"]["out"]["bias"], last)


def test_a_best_cosine_of_lost_projections_is_forgotten(runs):
    trained = open_trained(runs / "first")
    assert float(trained.state.plateau.best) == -np.inf
    assert trained.metadata["history"][0]["val"] == {}


def test_a_run_comes_back_to_the_bit_with_projections_and_their_moments(runs):
    first, second = open_trained(runs / "first"), open_trained(runs / "second")
    jax.tree.map(np.testing.assert_array_equal, first.state.params, second.state.params)
    jax.tree.map(np.testing.assert_array_equal, first.state.opt_state, second.state.opt_state)
    first_loss, second_loss = first.config.loss, second.config.loss
    assert first_loss == second_loss


def test_a_best_cosine_that_belongs_to_the_projections_goes_on(golden, runs, imported):
    content = load_torch(golden.path / ORIGINAL)
    content["criterion_state_dict"] = load_torch(runs / "back.pth")["criterion_state_dict"]
    run = imported("universal_face", content)
    assert float(run.state.plateau.best) == pytest.approx(0.11582601815462112)
    (entry,) = run.metadata["history"]
    assert entry["val"]["cosine_similarity"] == pytest.approx(0.115826018)


def test_a_file_from_before_the_adjustment_has_its_loss(golden, imported):
    content = load_torch(golden.path / ORIGINAL)
    for name in ("lambda_similarity_protection", "temperature"):
        del content["args"][name]
    loss = imported("universal_face", content).config.loss
    assert loss.lambda_similarity_protection == 0.5
    assert (loss.temperature, loss.protection_margin) == (0.07, 0.0)
