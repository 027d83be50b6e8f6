import math

import pytest

from jaxrecipes.tune.lr_finder import check_rates


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
