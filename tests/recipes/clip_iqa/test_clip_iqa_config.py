"""clip_iqa's presets, search space, suggestions, and what is refused."""

import pathlib

import pytest

from jaxrecipes.config import from_dict, load_config, load_function, to_dict
from jaxrecipes.recipes.clip_iqa.config import FreezeConfig, IqaRunConfig
from jaxrecipes.recipes.clip_iqa.freezing import freezing_plan
from jaxrecipes.recipes.clip_iqa.recipe import check_config, make_recipe
from jaxrecipes.recipes.clip_iqa.suggest import suggest
from jaxrecipes.runs.init_from import first_stage_config
from jaxrecipes.train.recipe import DataInfo

FILE = str(pathlib.Path(__file__).parents[3] / "configs/clip_iqa.py")


def preset(name, *flags):
    return load_config(f"{FILE}:{name}", flags)


@pytest.mark.parametrize(
    ("name", "mode", "layers", "scales", "epochs", "batch", "rate", "weights"),
    [
        ("scenario_small", "clip", None, (0.1, 0.1), 30, 16, 1e-3, (0.5, 0.5)),
        ("scenario_medium", "partial", 18, (0.2, 0.2), 20, 32, 3e-5, (0.5, 0.5)),
        ("scenario_large", "none", None, (0.3, 0.3), 15, 64, 3e-5, (0.5, 0.5)),
        ("a", "clip", None, (0.2, 0.2), 10, 64, 1e-3, (0.5, 0.5)),
        ("b", "partial", 18, (0.2, 0.2), 20, 32, 3e-5, (0.5, 0.5)),
        ("c", "partial", 20, (0.25, 0.25), 50, 16, 2e-5, (0.4, 0.6)),
        ("d", "partial", 18, (0.3, 0.15), 20, 32, 3e-5, (0.7, 0.3)),
        ("e", "partial", 18, (0.15, 0.3), 20, 32, 3e-5, (0.3, 0.7)),
    ],
)
def test_presets_have_the_numbers_of_the_source_document(
    name, mode, layers, scales, epochs, batch, rate, weights
):
    config = preset(name)
    assert config.freeze.mode == mode
    assert layers is None or config.freeze.layers == layers
    assert (config.heads.residual_scale_q, config.heads.residual_scale_c) == scales
    assert (config.epochs, config.data.batch_size) == (epochs, batch)
    assert config.optim.learning_rate == rate
    assert (config.loss.w_q, config.loss.w_c) == weights
    assert (config.optim.weight_decay, config.optim.clip_norm) == (1e-4, 1.0)
    assert config.optim.warmup_ratio == 0.05


def test_a_weight_of_zero_given_as_a_flag_counts():
    assert preset("b", "--loss.w_q", "0").loss.w_q == 0.0


def test_a_published_size_without_weights_must_be_meant():
    def check(*flags):
        check_config(preset("recommended", "--clip.weights", "None", *flags))

    with pytest.raises(ValueError, match=r"vit_l_14.*--clip\.weights.*from_scratch.*not download"):
        check()
    check("--clip.from_scratch")
    check("--init_from", "runs/other")
    check_config(preset("default"))
    two = preset("two_stage", "--clip.weights", "None")
    check_config(two)
    with pytest.raises(ValueError, match="from_scratch"):
        check_config(first_stage_config(two))


def test_a_config_comes_back_from_json_with_its_plan():
    config = preset("progressive")
    assert from_dict(IqaRunConfig, to_dict(config)) == config


def test_the_two_stages_have_the_numbers_of_the_source_document():
    second = preset("two_stage")
    first = first_stage_config(second)
    stages = [
        (config.freeze.mode, config.epochs, config.optim.learning_rate)
        for config in (first, second)
    ]
    assert stages == [("clip", 10, 1e-3), ("partial", 20, 1e-5)]
    assert second.freeze.layers == 20


def test_the_plan_unfreezes_layers_by_epoch_and_always_the_same_rest():
    plan = freezing_plan(preset("progressive"), steps_per_epoch=75)
    assert [step for step, _ in plan] == [0, 750, 1500]
    rules = [set(rules) for _, rules in plan]
    (text,) = (rule for rule in rules[0] & rules[2] if "text/blocks" in rule)
    assert text.count("|") == 11  # its 12 layers are frozen throughout
    assert len(rules[0] - rules[1]) == 1


@pytest.mark.parametrize(
    ("size", "low", "high", "step"),
    [("vit_l_14", 16, 22, 2), ("vit_b_32", 8, 10, 1)],
)
def test_the_search_of_frozen_layers_scales_with_the_depth(size, low, high, step):
    config = preset("b", "--clip.size", size)
    space = load_function(FILE, "search_space")(config)
    layers = space.parameters["freeze.layers"]
    assert (layers.low, layers.high, layers.step) == (low, high, step)
    trial = space.config(config, {"loss.w_q": 0.3})
    assert trial.loss.w_c == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("samples", "size", "name", "fields"),
    [
        (300, "vit_l_14", "scenario_small", {"optim.warmup_ratio": 0.01}),
        (2_982, "vit_l_14", "scenario_medium", {}),
        (2_982, "vit_b_32", "scenario_medium", {"clip.size": "vit_b_32", "freeze.layers": 8}),
        (20_000, "vit_l_14_336", "scenario_large", {"clip.size": "vit_l_14_336"}),
    ],
)
def test_suggestions_follow_the_tables_and_are_commands_that_parse(samples, size, name, fields):
    suggestion = suggest(samples, size)
    assert suggestion.preset == name
    assert fields.items() <= suggestion.fields.items()
    flags = suggestion.command(weights="W", path="P").split()[4:]
    config = preset(suggestion.preset, *flags)
    assert (config.clip.size, config.clip.weights) == (size, "W")
    assert len(suggestion.reasons) == 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"plan": {1: 2}}, "partial"),
        ({"mode": "partial", "plan": {2: 2}}, "epoch 1"),
        ({"mode": "partial", "layers": -1}, "expected layers >= 0"),
    ],
)
def test_freezing_that_makes_no_sense_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        FreezeConfig(**fields)


def test_a_restart_wants_a_plan_and_a_schedule_that_can_begin_anew():
    recipe = make_recipe(preset("progressive", "--freeze.restart"), DataInfo(steps_per_epoch=75))
    assert [(s.first_step, s.restart) for s in recipe.later_stages] == [(750, True), (1500, True)]
    assert recipe.hparams["learning_rate"](750) == 0 != recipe.hparams["learning_rate"](749)
    with pytest.raises(ValueError, match=r"restart is for freeze\.plan"):
        preset("recommended", "--freeze.restart")
    flags = ["--optim.schedule", "plateau", "--optim.warmup_ratio", "None"]
    with pytest.raises(ValueError, match="'plateau'"):
        preset("progressive", "--freeze.restart", *flags)
