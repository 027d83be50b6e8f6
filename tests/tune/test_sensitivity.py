"""Which hyperparameter matters: the moves, the effects by hand, and a run of it."""

import json
import pathlib

import numpy as np
import pytest
from annotated_types import Interval

from jaxrecipes.commands.tune import sensitivity
from jaxrecipes.config import load_config
from jaxrecipes.tune.sensitivity import effects, moved, one_at_a_time

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "noisy_curve.py"
FACTORS = (0.7, 1.3)


@pytest.mark.parametrize(
    ("value", "bounds", "wanted"),
    [
        (0.5, Interval(ge=0, le=1), [0.35, 0.65]),
        (0.9, Interval(ge=0, lt=1), [0.87, 0.93]),
        (0.999, Interval(ge=0, lt=1), [0.9987, 0.9993]),
        (1.0, Interval(ge=0, le=1), []),  # its distance to the bound is 0
        (2.0, Interval(ge=0), [1.4, 2.6]),
        (0.0, Interval(ge=0), []),
    ],
)
def test_moves_stay_within_the_bounds(value, bounds, wanted):
    np.testing.assert_allclose(moved(value, FACTORS, bounds), wanted)


def test_each_point_moves_one_hyperparameter_of_the_config():
    config = load_config("configs/ocec.py", [])
    space = one_at_a_time(config, FACTORS, fixed=["optim.b1"])
    base, *others = space.points
    assert base["optim.learning_rate"] == config.optim.learning_rate
    assert base["augment.flip_prob"] == config.augment.flip_prob
    assert "optim.b1" not in base
    assert "loss.weight" in base  # what counts there is f1
    assert {sum(point[n] != base[n] for n in base) for point in others} == {1}
    assert len(list(space.grid())) == len(others)
    face3d = one_at_a_time(load_config("configs/face3d.py", []), FACTORS)
    assert not [name for name in face3d.points[0] if name.startswith("loss.mse")]


def test_effects_are_paired_by_seed_and_compared_with_the_pooled_noise():
    points = [
        {"a": 1.0, "b": 2.0},
        {"a": 0.7, "b": 2.0},
        {"a": 1.3, "b": 2.0},
        {"a": 1.0, "b": 2.6},
    ]
    scores = {
        0: [0.50, 0.90, 0.10],  # seeds differ far more than the effects
        1: [0.51, 0.92, 0.13],
        2: [0.40, 0.80, 0.00],
        3: [0.50, 0.91, 0.09],
    }
    first, second = effects(points, scores)
    assert first.parameter == "a"
    np.testing.assert_allclose([*first.moves.values()], [0.02, -0.1], atol=1e-12)
    np.testing.assert_allclose([*second.moves.values()], [0.0], atol=1e-12)
    pooled = np.sqrt((1e-4 + 0.0 + 1e-4) / 3)
    assert first.noise == pytest.approx(2.4469 * pooled / np.sqrt(3), rel=1e-3)  # t of 6 degrees
    assert (first.verdict, second.verdict) == ("matters", "below the noise")


def test_one_seed_shows_no_noise():
    (effect,) = effects([{"a": 1.0}, {"a": 0.7}], {0: [0.5], 1: [0.4]})
    assert effect.noise is None
    assert "unknown" in effect.verdict


def test_without_a_result_of_the_config_itself_nothing_is_said():
    with pytest.raises(ValueError, match="the config as it is has no result"):
        effects([{"a": 1.0}, {"a": 0.7}], {1: [0.4]})


def test_a_run_of_it_leaves_a_table_and_a_page(tmp_path):
    fields = {"epochs": 1, "loop.compilation_cache": "", "optim.b1": 0.9, "optim.b2": 0.999}
    found = sensitivity(str(EXAMPLE), tmp_path, fields=fields, seeds=2, population=4)
    written = json.loads((tmp_path / "sensitivity.json").read_text())
    assert [e["parameter"] for e in written["effects"]] == [e.parameter for e in found]
    rate = next(e for e in found if e.parameter == "optim.learning_rate")
    assert rate.verdict == "matters"
    assert "below the noise" in (tmp_path / "report.html").read_text()
    again = sensitivity(str(EXAMPLE), tmp_path, fields=fields, seeds=2, population=4)
    assert again == found
    with pytest.raises(ValueError, match=r"moved\.dropout: \[0.035, 0.065\] -> \[0.025\]"):
        sensitivity(str(EXAMPLE), tmp_path, fields=fields, seeds=2, factors=[0.5])


@pytest.mark.parametrize("factors", [(), (1.0, 1.3), (0.0,)])
def test_factors_that_move_nothing_are_refused(factors, tmp_path):
    with pytest.raises(ValueError, match="numbers other than 0 and 1"):
        sensitivity("ocec", tmp_path, factors=factors)
