"""Schedules keep the bounds of the hyperparameters that they move, over the whole run."""

import re

import pytest

from jaxrecipes import schedules
from jaxrecipes.config import with_fields
from jaxrecipes.fields import declared_hparams
from jaxrecipes.runs.recipe_module import load_recipe
from jaxrecipes.train.config import DataConfig, OptimConfig, RunConfig
from jaxrecipes.train.hparams import check_hparams, collect
from jaxrecipes.train.recipe import DataInfo

DECLARED = declared_hparams(RunConfig())


def check(name, text, total_steps=40):
    check_hparams({name: schedules.parse(text)}, DECLARED, total_steps=total_steps)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("b1", "1", "the hyperparameter b1 is 1.0; expected 0 <= b1 < 1"),
        ("eps", "1e999", "the hyperparameter eps is inf; expected a finite number, eps >= 0"),
        ("flip_prob", "5", "the hyperparameter flip_prob is 5.0; expected 0 <= flip_prob <= 1"),
        ("loss_weight/x", "-1", "loss_weight/x is -1.0; expected loss_weight/x >= 0"),
        (
            "weight_decay",
            "linear(1, -1, steps=10)",
            "at step 6 the hyperparameter weight_decay is -",
        ),
        ("ema_decay", "ramp(0, 1, end_step=39)", "at step 39 the hyperparameter ema_decay is 1.0;"),
        ("clip_norm", "delayed(1, start_step=1)", "at step 0 the hyperparameter clip_norm is 0.0"),
        ("x", "exponential(1, gamma=1e30)", "at step 2 the hyperparameter x is inf; expected"),
        (
            "x",
            "scale(join((1, 1e30, 1), (7, 8)), join((1, 1e30, 1), (7, 8)))",
            "at step 7 the hyperparameter x is inf",
        ),
    ],
)
def test_a_hyperparameter_out_of_bounds_is_named_with_its_step(name, text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check(name, text)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (
            "0.5",
            "linear(1, 0, steps=40)",
            "at step 21 the hyperparameter x_min is 0.5, above x_max",
        ),
        ("linear(0, 1, steps=40)", "linear(1, 0, steps=40)", "at step 21 the hyperparameter x_min"),
        ("0.5", "0.25", "at step 0 the hyperparameter x_min is 0.5, above x_max, which is 0.25"),
    ],
)
def test_a_range_whose_ends_cross_is_named_with_its_step(low, high, message):
    hparams = {"x_min": schedules.parse(low), "x_max": schedules.parse(high)}
    with pytest.raises(ValueError, match=message):
        check_hparams(hparams, DECLARED, total_steps=40)
    check_hparams(hparams | {"x_min": schedules.parse("0")}, DECLARED, total_steps=40)


def test_a_step_after_the_run_is_not_looked_at():
    check("ema_decay", "ramp(0, 1, end_step=40)", total_steps=40)


def test_a_long_run_is_looked_at_to_its_last_step():
    check("clip_norm", "linear(1, 0.5, steps=20)", total_steps=2**31 - 1)
    with pytest.raises(ValueError, match=r"clip_norm is 0\.0"):
        check("clip_norm", "linear(1, 0, steps=3000000)", total_steps=3_000_001)


def test_the_rounding_of_a_schedule_at_its_bound_is_no_fault():
    check("flip_prob", "linear(1, 1, steps=1000)", total_steps=1000)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            RunConfig(optim=OptimConfig(b2="linear(0, 1, steps=run - 1)")),
            r"at step 59 .* b2 is 1\.0",
        ),
        (
            RunConfig(
                data=DataConfig(batch_size=8),
                optim=OptimConfig(learning_rate=3e38, reference_batch_size=1, schedule="constant"),
            ),
            r"learning_rate is 2.4e\+39; expected a number that float32 holds",
        ),
        (
            RunConfig(
                optim=OptimConfig(
                    learning_rate='cyclic(1, 10, step_size_up=1, mode="exp_range", gamma=1e20)'
                )
            ),
            "at step 2 the hyperparameter learning_rate is nan",
        ),
    ],
)
def test_building_the_hyperparameters_of_a_run_checks_them(config, message):
    with pytest.raises(ValueError, match=message):
        collect(config, 2)


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        ("ocec", "augment.cutmix_alpha"),
        ("face3d", "loss.angle_kappa"),
        ("universal_face", "loss.temperature"),
        ("clip_iqa", "heads.residual_scale_q"),
        ("hand_pose", "augment.strengths.noise_std"),
    ],
)
def test_hyperparameters_of_every_recipe_are_checked(recipe, name):
    module = load_recipe(recipe)
    on = {"augment.cutmix_prob": 1.0} if recipe == "ocec" else {}
    config = with_fields(module.Config(), {**on, name: "constant(-0.5)"})
    name = name.rpartition(".")[2]
    with pytest.raises(ValueError, match=rf"the hyperparameter {name} is -0\.5; expected {name} >"):
        module.make_recipe(config, DataInfo(steps_per_epoch=2))


def test_the_backbones_rate_may_rest_at_0_for_a_while():
    module = load_recipe("hand_pose")
    resting = {"backbone.learning_rate": "delayed(0.1, start_step=2)"}
    module.make_recipe(with_fields(module.Config(), resting), DataInfo(steps_per_epoch=2))
