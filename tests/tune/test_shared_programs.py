"""Which trials share data and programs."""

import pytest
from toy_search import ToyModule, toy_run_config

from jaxrecipes.runs.recipe_module import RecipeModule
from jaxrecipes.sharding import make_mesh
from jaxrecipes.train.config import EarlyStoppingConfig, OptimConfig
from jaxrecipes.tune.shared import Shared
from jaxrecipes.tune.space import Choice, Float, Int, Space

SPACE = Space(
    {
        "optim.learning_rate": Float(1e-3, 1e-1, log=True),
        "input_scale": Float(0.5, 2.0),
        "width": Int(4, 12),
        "optim.accumulation_steps": Choice((1, 2)),
    }
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return Shared(
        RecipeModule("toy", ToyModule()),
        make_mesh(),
        report_dir=tmp_path_factory.mktemp("search"),
    )


def programs(shared, **fields):
    values = {name: fields.pop(name) for name in ("input_scale", "width") if name in fields}
    values |= {"optim.learning_rate": fields.pop("learning_rate", 0.02)}
    config = SPACE.config(toy_run_config(**fields), values)
    shared.data(config)
    return shared.programs(config)


def test_trials_that_change_only_numbers_share_one_program(shared):
    first, made = programs(shared), shared.num_programs
    assert all(programs(shared, learning_rate=rate) is first for rate in (0.003, 0.0123, 0.1))
    assert shared.num_programs == made


def test_a_float_that_is_a_constant_of_the_program_makes_another(shared):
    other = programs(shared, input_scale=0.7)
    assert other is not programs(shared)
    assert programs(shared, input_scale=0.7, learning_rate=0.05) is other


def test_structure_makes_another_program_and_coming_back_does_not(shared):
    first = programs(shared)
    assert programs(shared, width=9) is not first
    made = shared.num_programs
    assert programs(shared) is first
    assert shared.num_programs == made


def test_what_the_programs_do_not_see_makes_no_other(shared):
    assert programs(shared, epochs=7, select_metric="f1", select_mode="max") is programs(shared)


def test_data_is_loaded_once_and_batched_anew_for_other_batches(shared):
    before = shared._module.names.loads
    configs = [SPACE.config(toy_run_config(), {"optim.accumulation_steps": n}) for n in (1, 1, 2)]
    first, second, third = map(shared.data, configs)
    assert first.train.source is second.train.source
    assert third.examples_per_step == 2 * first.examples_per_step
    assert shared._module.names.loads <= before + 1


@pytest.mark.parametrize(
    ("fields", "other"),
    [
        ({"optim": OptimConfig(schedule="plateau")}, {"optim": OptimConfig(schedule="constant")}),
        ({}, {"early_stopping": EarlyStoppingConfig(patience_epochs=3)}),
        (
            {"early_stopping": EarlyStoppingConfig(patience_epochs=3, mode="min")},
            {"early_stopping": EarlyStoppingConfig(patience_epochs=3, mode="max")},
        ),
    ],
)
def test_trials_whose_state_begins_otherwise_do_not_share(shared, fields, other):
    assert programs(shared, **fields) is not programs(shared, **other)


def test_the_patience_of_a_trial_makes_no_other_program(shared):
    first, second = (EarlyStoppingConfig(patience_epochs=n) for n in (2, 3))
    assert programs(shared, early_stopping=first) is programs(shared, early_stopping=second)
