import math

import numpy as np
import pytest

from jaxrecipes.tune.lr_finder import check_rates, range_test, train_command
from jaxrecipes.tune.lr_page import write_lr_page


def test_a_range_of_rates_ascends_from_above_0():
    check_rates(1e-7, 1.0)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (0.0, 1.0, r"start_rate is 0.0; expected start_rate > 0"),
        (1e-50, 1.0, r"start_rate is 1e-50, in float32 0.0; expected start_rate > 0"),
        (math.nan, 1.0, "start_rate is nan; expected a finite number"),
        (1e-7, math.inf, "end_rate is inf; expected a finite number"),
        (1e-7, 1e39, "end_rate is 1e.39; expected a number that float32 holds"),
        (1.0, 1.0, "expected start_rate < end_rate, got 1.0 and 1.0"),
    ],
)
def test_other_ranges_are_refused_before_a_step(start, end, message):
    with pytest.raises(ValueError, match=message):
        check_rates(start, end)


def test_a_loss_that_is_not_finite_from_the_start_is_said_to_be():
    with pytest.raises(ValueError, match="the loss of the first step is nan"):
        range_test(np.full(40, np.nan), start_rate=1e-3, end_rate=1.0, num_steps=40)


def test_the_page_begins_with_the_suggestion_and_the_command(tmp_path):
    losses = np.concatenate([np.linspace(1.0, 0.2, 30), np.linspace(0.3, 9.0, 10)])
    test = range_test(losses, start_rate=1e-4, end_rate=1.0, num_steps=40)
    train = train_command(test, "--config", "my recipe.py")
    assert (
        train
        == f"jaxrecipes train --config 'my recipe.py' --optim.learning_rate {test.suggestion:.3g}"
    )
    first = write_lr_page(test, tmp_path, train=train).read_text()
    places = [first.index(text) for text in (f"{test.suggestion:.3g}</p>", "<svg", "Train with it")]
    assert places == sorted(places)


def test_without_a_suggestion_the_page_says_what_to_try(tmp_path):
    test = range_test(np.array([1.0, 2.0, 200.0]), start_rate=1e-4, end_rate=1.0, num_steps=40)
    assert train_command(test, "--config", "ocec") == ""
    assert "try a lower --start_rate" in write_lr_page(test, tmp_path, train="").read_text()
