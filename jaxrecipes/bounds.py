"""The bounds of numbers: what a type declares, whether a number is within them, and if not, why."""

import math
import types
import typing
from typing import Annotated, Any

import numpy as np
from annotated_types import Interval

from jaxrecipes import errors


def bounds_of(hint: Any) -> Interval:
    """The bounds that a number's type declares; for `X | None`, those of X."""
    if typing.get_origin(hint) is Annotated:
        return next((x for x in hint.__metadata__ if isinstance(x, Interval)), Interval())
    if is_union(hint):
        return bounds_of(next(x for x in typing.get_args(hint) if x is not types.NoneType))
    return Interval()


def within(value: Any, bounds: Interval) -> Any:
    """Whether a number is within its bounds; elementwise for an array."""
    return (
        (bounds.gt is None or value > bounds.gt)
        & (bounds.ge is None or value >= bounds.ge)
        & (bounds.lt is None or value < bounds.lt)
        & (bounds.le is None or value <= bounds.le)
    )


def wrong(value: float, bounds: Interval, name: str) -> str | None:
    """What is wrong with a number called `name`: `is 2.0; expected 0 <= b1 < 1`; None if nothing.

    A float must also be within the bounds in float32, where 0.999999999 is 1.
    """
    with np.errstate(over="ignore"):
        kept = float(np.float32(value)) if isinstance(value, float) else value
    if isinstance(value, float) and abs(kept) < np.finfo(np.float32).tiny:
        kept = 0.0  # as XLA has it
    wanted = bounds_text(bounds, name)
    if isinstance(value, float) and not math.isfinite(kept):
        finite = "a number that float32 holds" if math.isfinite(value) else "a finite number"
        return f"is {value!r}; expected {finite}{wanted and ', '}{wanted}"
    if not within(value, bounds):
        return f"is {shown(value)}; expected {wanted}"
    if not within(kept, bounds):
        return f"is {value!r}, in float32 {kept!r}; expected {wanted}"
    if isinstance(value, int) and bounds.lt is bounds.le is None and abs(value) >= 2**31:
        return f"is {shown(value)}; expected a 32-bit number"
    return None


def bounds_text(bounds: Interval, name: str) -> str:
    """`0 <= NAME < 1`, `NAME > 0`, or an empty string if there are no bounds."""
    low, at_least = (bounds.gt, "<") if bounds.ge is None else (bounds.ge, "<=")
    high, at_most = (bounds.lt, "<") if bounds.le is None else (bounds.le, "<=")
    if low is None and high is None:
        return ""
    if high is None:
        return f"{name} {at_least.replace('<', '>')} {_number(low)}"
    upper = f"{name} {at_most} {_number(high)}"
    return upper if low is None else f"{_number(low)} {at_least} {upper}"


def _number(limit: Any) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


def is_union(hint: Any) -> bool:
    """Whether a type is `X | Y`."""
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def shown(value: Any) -> str:
    """The `repr` of a value, shortened if it is long."""
    if isinstance(value, int) and value.bit_length() > 200:
        return f"a number of {value.bit_length()} bits"
    return errors.shortened(" ".join(repr(value).split()), 80)
