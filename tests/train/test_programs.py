"""Programs that several runs share: the numbers of the hyperparameters are no part of them."""

import jax
import numpy as np
import pytest
from toy_recipe import toy_config, toy_data, toy_fit, toy_hparams, toy_recipe

from jaxrecipes.train.programs import Programs

OTHER_NUMBERS = {"learning_rate": 0.02, "dropout_rate": 0.4, "loss_weight/l2": 0.3}


def test_a_second_run_with_other_numbers_compiles_nothing_and_learns_the_same(tmp_path):
    config = toy_config(epochs=1)
    data = toy_data(config)
    shared = Programs(toy_recipe(), data, steps_per_call=3, mesh=data.mesh)
    toy_fit(tmp_path / "first", config=config, programs=shared)
    recipe = toy_recipe(hparams=toy_hparams(**OTHER_NUMBERS))
    with_shared = toy_fit(tmp_path / "second", recipe, config=config, programs=shared)
    alone = toy_fit(tmp_path / "alone", recipe, config=config)
    assert with_shared.summary["compilations"] == {"train": 1, "eval": 1}
    assert with_shared.summary["best"] == alone.summary["best"]
    jax.tree.map(np.testing.assert_array_equal, with_shared.params, alone.params)


def test_the_whole_history_is_handed_over_after_each_epoch(tmp_path):
    seen = []
    toy_fit(tmp_path, after_epoch=lambda history: seen.append(len(history)))
    assert seen == [1, 2, 3]


def test_what_is_raised_after_an_epoch_ends_the_run_which_can_go_on_later(tmp_path):
    def stop(history):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        toy_fit(tmp_path, after_epoch=stop)
    finished = toy_fit(tmp_path)
    assert finished.summary["final"]["epoch"] == 3
