"""Programs that several runs share: the numbers of the hyperparameters are no part of them."""

import jax
import numpy as np
import pytest
from toy_recipe import toy_arrays, toy_config, toy_hparams, toy_recipe, toy_run

from jaxrecipes.sharding import make_mesh
from jaxrecipes.train.programs import Programs
from jaxrecipes.train.run_data import make_run_data

OTHER_NUMBERS = {"learning_rate": 0.02, "dropout_rate": 0.4, "loss_weight/l2": 0.3}


def test_a_second_run_with_other_numbers_compiles_nothing_and_learns_the_same(tmp_path):
    config, mesh = toy_config(epochs=1), make_mesh()
    data = make_run_data({"train": toy_arrays(), "val": toy_arrays(20, seed=1)}, config, mesh)
    shared = Programs(toy_recipe(), data, steps_per_call=3, mesh=mesh)
    toy_run(tmp_path / "first", config=config, programs=shared).fit()
    recipe = toy_recipe(hparams=toy_hparams(**OTHER_NUMBERS))
    with_shared = toy_run(tmp_path / "second", recipe, config=config, programs=shared).fit()
    alone = toy_run(tmp_path / "alone", recipe, config=config).fit()
    assert with_shared.summary["compilations"] == {"train": 1, "eval": 1}
    assert with_shared.summary["best"] == alone.summary["best"]
    jax.tree.map(np.testing.assert_array_equal, with_shared.params, alone.params)


def test_the_whole_history_is_handed_over_after_each_epoch(tmp_path):
    seen = []
    toy_run(tmp_path, after_epoch=lambda history: seen.append(len(history))).fit()
    assert seen == [1, 2, 3]


def test_what_is_raised_after_an_epoch_ends_the_run_which_can_go_on_later(tmp_path):
    def stop(history):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        toy_run(tmp_path, after_epoch=stop).fit()
    finished = toy_run(tmp_path).fit()
    assert finished.summary["final"]["epoch"] == 3
