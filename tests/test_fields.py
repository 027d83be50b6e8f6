import dataclasses
import math
from typing import Annotated, Literal

import numpy as np
import pytest
from annotated_types import Interval
from hypothesis import given
from hypothesis import strategies as st

from jaxrecipes.bounds import bounds_of, bounds_text, within, wrong
from jaxrecipes.fields import (
    Checked,
    Count,
    FieldError,
    Hparam,
    NonNegative,
    Positive,
    Probability,
    Share,
    check_fields,
    declared_hparams,
    hparam,
)
from jaxrecipes.train.config import EmaConfig, OptimConfig, RunConfig

KINDS = (NonNegative, Positive, Probability, Share)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part(Checked):
    share: Hparam[Share] = hparam(0.5, name="share_rate")
    sizes: tuple[Count, Count] = (1, 2)
    limit: Hparam[Positive | None] = hparam(None)
    factors: dict[str, NonNegative] = dataclasses.field(default_factory=dict)
    plan: dict[Count, Count] = dataclasses.field(default_factory=dict)
    kind: Literal["mean", "sum"] = "mean"
    count: int = 1
    on: bool = True


@dataclasses.dataclass(frozen=True)
class Unchecked:
    """A stranger's config, which does not check itself."""

    part: Part
    rate: Annotated[float, Interval(gt=0, lt=1)] = 0.5


@given(st.floats(), st.sampled_from(KINDS))
def test_a_float_is_taken_exactly_where_it_is_finite_and_within_in_float32(value, kind):
    bounds = bounds_of(kind)
    largest = float(np.finfo(np.float32).max)
    inside = math.isfinite(value) and abs(value) <= largest and within(value, bounds)
    problem = wrong(value, bounds, "x")
    if problem is None:
        assert inside
    elif inside:  # rounding carries it over the edge
        assert "in float32" in problem or abs(value) > 3.3e38


@given(st.integers())
def test_a_count_is_taken_from_1_on_as_far_as_32_bits_hold_it(value):
    assert (wrong(value, bounds_of(Count), "x") is None) == (1 <= value < 2**31)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("share", 1.0, "Part.share is 1.0; expected 0 <= share < 1"),
        (
            "share",
            0.999999999,
            "Part.share is 0.999999999, in float32 1.0; expected 0 <= share < 1",
        ),
        ("share", math.nan, "Part.share is nan; expected a finite number, 0 <= share < 1"),
        ("share", True, "Part.share is True (bool); expected float"),
        ("share", "0.5", "Part.share is '0.5' (str); expected float | a schedule"),
        ("sizes", (3, 0), "Part.sizes[1] is 0; expected sizes[1] >= 1"),
        ("sizes", (3, 2.0), "Part.sizes is (3, 2.0) (tuple); expected tuple[int, int]"),
        ("limit", 1e-38, "Part.limit is 1e-38, in float32 0.0; expected limit > 0"),
        ("limit", 0.0, "Part.limit is 0.0; expected limit > 0"),
        ("limit", 1e39, "Part.limit is 1e+39; expected a number that float32 holds, limit > 0"),
        ("factors", {"a": -1.0}, "Part.factors['a'] is -1.0; expected factors['a'] >= 0"),
        ("plan", {0: 1}, "Part.plan key is 0; expected plan key >= 1"),
        ("kind", "meen", "Part.kind is 'meen'; did you mean 'mean'? Known: mean, sum"),
        ("count", True, "Part.count is True (bool); expected int"),
        ("count", 2**700, "Part.count is a number of 701 bits; expected a 32-bit number"),
        ("on", 1, "Part.on is 1 (int); expected bool"),
    ],
)
def test_a_part_cannot_be_made_with_a_value_that_its_field_does_not_allow(field, value, message):
    with pytest.raises(FieldError) as refused:
        Part(**{field: value})
    assert str(refused.value) == message


def test_values_at_the_closed_end_and_whole_numbers_for_floats_are_taken():
    part = Part(share=0, sizes=(1, 2**31 - 1), limit=1e-30, factors={"a": 0.0})
    assert part.share == 0


def test_a_config_that_does_not_check_itself_is_checked_as_a_whole():
    check_fields(Unchecked(Part()))
    with pytest.raises(ValueError, match=r"^rate is 1.0; expected 0 < rate < 1$"):
        check_fields(Unchecked(Part(), rate=1.0))
    part = Part()
    object.__setattr__(part, "share", 3.0)
    with pytest.raises(ValueError, match=r"^part.share is 3.0; expected"):
        check_fields(Unchecked(part))


def test_hyperparameters_have_the_bounds_of_their_fields():
    declared = declared_hparams(Unchecked(Part()))
    share = Interval(ge=0, lt=1)
    assert declared == {"share_rate": share, "limit": Interval(gt=0)}
    assert declared_hparams(RunConfig())["ema_decay"] == share


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        (Interval(ge=0, lt=1), "0 <= x < 1"),
        (Interval(gt=0, le=0.5), "0 < x <= 0.5"),
        (Interval(gt=0), "x > 0"),
        (Interval(le=2), "x <= 2"),
        (Interval(), ""),
    ],
)
def test_bounds_are_written_as_in_a_book(bounds, text):
    assert bounds_text(bounds, "x") == text


def test_what_pytorch_allows_is_allowed():
    OptimConfig(learning_rate=0.0, b1=0.0, b2=0.0, eps=0.0, weight_decay=0.0, momentum=0.0)
    EmaConfig(decay=0.0)
