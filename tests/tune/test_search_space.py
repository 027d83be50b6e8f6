import dataclasses

import pytest
from toy_search import ToyModule, toy_run_config

from jaxrecipes.recipes.ocec.config import OcecRunConfig
from jaxrecipes.train.config import EmaConfig, OptimConfig
from jaxrecipes.train.hparams import collect
from jaxrecipes.tune.space import (
    Choice,
    Float,
    Int,
    Space,
    declared_space,
    fixed_fields,
    parse_parameter,
)

BASE = toy_run_config()


def check(space):
    space.check(BASE, ToyModule().check_config)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"optim.learningrate": Float(0.0, 1.0)}, "did you mean 'optim.learning_rate'"),
        ({"loss_weight/l2": Float(0.0, 1.0)}, "name in the log; its field is l2"),
        ({"width": Int(4, 16)}, "search of width: at 16, width is 16; at most 12"),
        ({"width": Float(4.5, 8.0)}, r"at 4.5, width is 4.5 \(float\); expected int"),
        ({"ema.decay": Float(0.9, 1.5)}, "at 1.5, ema.decay is 1.5"),
        ({"optim.b1": Float(0.5, 1.0)}, "at 1.0, optim.b1 is 1.0; expected 0 <= b1 < 1"),
        ({"optim.weight_decay": Float(-1e-4, 0.0)}, "at -0.0001, optim.weight_decay is -0.0001"),
        (
            {"l2": Float(-1.0, 1.0)},
            "search of l2: at -1.0, l2 is -1.0; expected l2 >= 0",
        ),
        ({}, "nothing to search"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_at_once(parameters, message):
    with pytest.raises(ValueError, match=message):
        check(Space(parameters))


def test_a_space_sets_fields_and_what_follows_from_them():
    space = Space(
        {"optim.learning_rate": Float(1e-3, 1e-1), "l2": Float(0.0, 1.0)},
        derived={"dropout": lambda config: 5 * config.optim.learning_rate},
    )
    check(space)
    config = space.config(BASE, {"optim.learning_rate": 0.02, "l2": 0.25})
    assert config.optim.learning_rate == 0.02
    assert config.l2 == 0.25
    assert config.dropout == pytest.approx(0.1)


def test_fields_that_are_checked_together_are_set_together():
    @dataclasses.dataclass(frozen=True)
    class Range:
        low: float = 0.0
        high: float = 1.0

        def __post_init__(self):
            if self.low >= self.high:
                raise ValueError("expected low < high")

    @dataclasses.dataclass(frozen=True)
    class Config:
        range: Range

    space = Space({"range.low": Float(0.0, 5.0), "range.high": Float(0.0, 5.0)})
    config = space.config(Config(Range()), {"range.low": 3.0, "range.high": 4.0})
    assert config.range == Range(3.0, 4.0)


def test_a_schedule_is_searched_by_factors_on_it():
    base = toy_run_config(l2="linear(0, 1, steps=run)")
    space = Space({"l2": Float(0.5, 2.0)})
    space.check(base, ToyModule().check_config)
    config = space.config(base, {"l2": 0.75})
    assert config.l2 == "scale(linear(0, 1, steps=run), 0.75)"
    assert float(collect(config, 5)["loss_weight/l2"](5)) == pytest.approx(0.375)


def test_the_fields_declare_what_is_searched():
    config = OcecRunConfig(optim=OptimConfig(learning_rate=0.1), ema=EmaConfig(enabled=False))
    parameters = declared_space(config).parameters
    assert parameters["optim.learning_rate"].ends == pytest.approx((0.01, 1.0))
    assert parameters["model.dropout"] == Float(0.0, 0.5)
    assert "loss.focal_gamma" not in parameters  # of another loss
    assert "ema.decay" not in parameters
    scheduled = dataclasses.replace(config, optim=OptimConfig(learning_rate="cosine(1, steps=run)"))
    assert declared_space(scheduled).parameters["optim.learning_rate"] == Float(0.1, 10.0, log=True)


def test_a_field_that_is_given_a_value_is_not_searched():
    space = Space({"optim.learning_rate": Float(1e-3, 1e-1), "ema.enabled": Choice((True, False))})
    flags = ["--optim.learning-rate=0.1", "--ema.no_enabled", "--epochs", "3"]
    assert fixed_fields(BASE, flags) == {"optim.learning_rate", "ema.enabled", "epochs"}
    assert space.without(fixed_fields(BASE, flags)).parameters == {}


@pytest.mark.parametrize(
    ("text", "parameter"),
    [
        ("optim.learning_rate=1e-4:1e-2:log", Float(1e-4, 1e-2, log=True)),
        ("dropout=0:0.5", Float(0.0, 0.5)),
        ("width=4:12:4", Int(4, 12, step=4)),
        ("width=4:12:log", Int(4, 12, log=True)),
        ("optim.optimizer=adam,sgd", Choice(("adam", "sgd"))),
        ("optim.clip_norm=None,1.0", Choice((None, 1.0))),
        ("ema.enabled=True,False", Choice((True, False))),
        ("data.batch_size=8,16", Choice((8, 16))),
    ],
)
def test_a_range_is_read_from_the_command_line(text, parameter):
    assert parse_parameter(text, BASE) == (text.partition("=")[0], parameter)


@pytest.mark.parametrize(
    "text", ["dropout", "dropout=", "dropout=a:b", "dropout=0:1:2", "dropout=1:0", "width=4:12:5"]
)
def test_a_range_that_cannot_be_read_is_an_error_that_shows_it(text):
    with pytest.raises(ValueError, match=text.replace(".", r"\.")):
        parse_parameter(text, BASE)
