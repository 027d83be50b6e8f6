"""The fields of configs: their types, the bounds of their numbers, and which of them are data.

A number's bounds are declared once, with its type: `decay: Share = 0.999`, or for one field alone
`yaw_index: Annotated[int, Interval(ge=0, le=2)] = 0`. No number may be NaN, infinite or too large
for 32 bits, as which it enters the step.
"""

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, TypeVar

import numpy as np
import typeguard
from annotated_types import Interval

from jaxrecipes import errors

T = TypeVar("T")

NonNegative = Annotated[float, Interval(ge=0)]
Positive = Annotated[float, Interval(gt=0)]
Probability = Annotated[float, Interval(ge=0, le=1)]
Share = Annotated[float, Interval(ge=0, lt=1)]
"""What may be nothing but not all: a decay, a rate of dropout that leaves something."""
Fraction = Annotated[float, Interval(gt=0, lt=1)]
Count = Annotated[int, Interval(ge=1)]
Layers = Annotated[int, Interval(ge=1, lt=1000)]
Pixels = Annotated[int, Interval(ge=1, lt=2**15)]
CountOrZero = Annotated[int, Interval(ge=0)]
Seed = Annotated[int, Interval(ge=0, lt=2**32)]


class FieldError(ValueError):
    """A value that a field does not allow; says `Class.field is ...` until `located` knows better.

    Attributes:
      owner: the dataclass.
      field: the field's name, with the entry where one is meant: `std[0]`.
      problem: the rest of the message.
    """

    def __init__(self, owner: type, field: str, problem: str):
        super().__init__(f"{owner.__name__}.{field} {problem}")
        self.owner, self.field, self.problem = owner, field, problem


class Checked:
    """A dataclass that cannot be made with a value of a wrong type or out of its field's bounds.

    One with a `__post_init__` of its own calls this one first.
    """

    def __post_init__(self) -> None:
        _check_own_fields(self)


def hparam(default: T, *names: str) -> T:
    """The default of a field that becomes a hyperparameter, which has the field's bounds.

    Args:
      default: the value.
      names: of the hyperparameter, or of several; none: the field's.
    """
    return dataclasses.field(default=default, metadata={"hparams": names})


def check_fields(config: Any) -> None:
    """Checks a config of any dataclasses and all configs within.

    Raises:
      ValueError: names the first field whose value is not of the declared type, or out of bounds.
    """
    try:
        for part in _parts(config):
            _check_own_fields(part)
    except FieldError as error:
        raise located(error, type(config)) from None


def located(error: FieldError, config_type: type) -> ValueError:
    """The same error with the field's dotted name in such a config: `optim.b1 is 2.0; ...`."""
    paths = [path for path, owner in _sections(config_type) if owner is error.owner]
    return ValueError(f"{paths[0]}{error.field} {error.problem}") if len(paths) == 1 else error


def declared_hparams(*configs: Any) -> dict[str, Interval]:
    """The bounds of every hyperparameter that a field of these configs, or within, declares."""
    return {
        name: bounds_of(type_hints(type(part))[field.name])
        for config in configs
        for part in _parts(config)
        for field in dataclasses.fields(part)
        if "hparams" in field.metadata
        for name in field.metadata["hparams"] or (field.name,)
    }


def declared_values(config: Any) -> dict[str, Any]:
    """The value of every hyperparameter that a field of the config, or within, declares."""
    return {
        name: getattr(part, field.name)
        for part in _parts(config)
        for field in dataclasses.fields(part)
        for name in field.metadata.get("hparams", ()) or (field.name,)
        if "hparams" in field.metadata
    }


def bounds_of(hint: Any) -> Interval:
    """The bounds that a number's type declares; in `X | None` those of X."""
    if typing.get_origin(hint) is Annotated:
        return next((x for x in hint.__metadata__ if isinstance(x, Interval)), Interval())
    if _is_union(hint):
        return bounds_of(next(x for x in typing.get_args(hint) if x is not types.NoneType))
    return Interval()


def plain(hint: Any) -> Any:
    """The type without what it is annotated with."""
    return hint.__origin__ if typing.get_origin(hint) is Annotated else hint


def wrong(value: float, bounds: Interval, name: str) -> str | None:
    """What is wrong with a number called `name`: `is 2.0; it wants 0 <= b1 < 1`; None if nothing.

    A float has to keep the bounds in float32 too, where 0.999999999 is 1.
    """
    with np.errstate(over="ignore"):
        kept = float(np.float32(value)) if isinstance(value, float) else value
    if isinstance(value, float) and abs(kept) < np.finfo(np.float32).tiny:
        kept = 0.0  # as XLA has it
    wanted = bounds_text(bounds, name)
    if isinstance(value, float) and not math.isfinite(kept):
        finite = "a number that float32 holds" if math.isfinite(value) else "a finite number"
        return f"is {value!r}; it wants {finite}{wanted and ', '}{wanted}"
    if not within(value, bounds):
        return f"is {_shown(value)}; it wants {wanted}"
    if not within(kept, bounds):
        return f"is {value!r}, in float32 {kept!r}; it wants {wanted}"
    if isinstance(value, int) and bounds.lt is bounds.le is None and abs(value) >= 2**31:
        return f"is {_shown(value)}; it wants a number of 32 bits"
    return None


def bounds_text(bounds: Interval, name: str) -> str:
    """`0 <= NAME < 1`, `NAME > 0`, or nothing where there are no bounds."""
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


def numbers(value: Any, hint: Any, entry: str = "") -> Iterator[tuple[str, Any, type, Interval]]:
    """Every number in a value of this type: `(entry, number, int or float, bounds)`."""
    kind = plain(hint)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind in (int, float):
        if isinstance(value, int | float):
            yield entry, value, kind, bounds_of(hint)
    elif _is_union(kind):
        for option in args if value is not None else ():
            yield from numbers(value, option, entry)
    elif origin is tuple and isinstance(value, tuple):
        options = args[:1] * len(value) if args[-1] is Ellipsis else args
        for i, (item, option) in enumerate(zip(value, options, strict=False)):
            yield from numbers(item, option, f"{entry}[{i}]")
    elif origin is dict and isinstance(value, dict):
        for key, item in value.items():
            yield from numbers(key, args[0], f"{entry} key")
            yield from numbers(item, args[1], f"{entry}[{key!r}]")


def _check_own_fields(config: Any) -> None:
    """Raises a FieldError for the first field that does not hold what it declares."""
    for field in dataclasses.fields(config):
        value, hint = getattr(config, field.name), type_hints(type(config))[field.name]
        try:
            typeguard.check_type(value, hint)
        except typeguard.TypeCheckError:
            raise FieldError(type(config), field.name, wrong_type(value, hint)) from None
    check_numbers(config)


def check_numbers(config: Any) -> None:
    """Checks the Python numbers among the fields of a dataclass, which may hold arrays as well.

    Raises:
      FieldError: names the first that is out of bounds.
    """
    for field in dataclasses.fields(config):
        value, hint = getattr(config, field.name), type_hints(type(config))[field.name]
        for entry, number, kind, bounds in numbers(value, hint):
            if isinstance(number, bool):
                problem: str | None = wrong_type(number, kind)
            else:
                problem = wrong(number, bounds, field.name + entry)
            if problem is not None:
                raise FieldError(type(config), field.name + entry, problem)


def type_hints(owner: Any) -> dict[str, Any]:
    """The types of a dataclass' fields with their bounds, by name."""
    return _type_hints(owner)


@functools.cache
def _type_hints(owner: Any) -> dict[str, Any]:
    return typing.get_type_hints(owner, include_extras=True)


def _parts(config: Any) -> Iterator[Any]:
    """The config and all configs within."""
    yield config
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _parts(value)


def _sections(owner: type, path: str = "") -> Iterator[tuple[str, type]]:
    """The dataclass and those that its fields have as types, with the dotted path to each."""
    yield path, owner
    for name, hint in type_hints(owner).items():
        for option in _options(hint):
            if dataclasses.is_dataclass(option):
                yield from _sections(typing.cast(type, option), f"{path}{name}.")


def _options(hint: Any) -> tuple[Any, ...]:
    """The types that a union joins; of any other type itself."""
    return typing.get_args(hint) if _is_union(hint) else (hint,)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def within(value: Any, bounds: Interval) -> Any:
    """Whether a number keeps its bounds; of an array for each of its numbers."""
    return (
        (bounds.gt is None or value > bounds.gt)
        & (bounds.ge is None or value >= bounds.ge)
        & (bounds.lt is None or value < bounds.lt)
        & (bounds.le is None or value <= bounds.le)
    )


def wrong_type(value: Any, hint: Any) -> str:
    """What is wrong with a value of another type: `is 'a' (str); it wants float`."""
    choices = [x for option in _options(hint) for x in typing.get_args(option)]
    if isinstance(value, str) and choices and all(isinstance(x, str) for x in choices):
        return f"is {_shown(value)}{errors.hint(value, choices)}"
    return f"is {_shown(value)} ({type(value).__name__}); it wants {_type_text(hint)}"


def _shown(value: Any) -> str:
    """The value as Python writes it, cut where it is long."""
    if isinstance(value, int) and value.bit_length() > 200:
        return f"a number of {value.bit_length()} bits"
    return errors.shortened(" ".join(repr(value).split()), 80)


def _type_text(hint: Any) -> str:
    """The type as it is written, without its bounds."""
    if typing.get_origin(hint) is Annotated:
        return _type_text(hint.__origin__)
    if _is_union(hint):
        return " | ".join(_type_text(option) for option in typing.get_args(hint))
    args = typing.get_args(hint)
    if typing.get_origin(hint) in (tuple, dict):
        inner = ", ".join("..." if arg is Ellipsis else _type_text(arg) for arg in args)
        return f"{typing.get_origin(hint).__name__}[{inner}]"
    if hint is types.NoneType:
        return "None"
    return getattr(hint, "__name__", "") if not args else str(hint).removeprefix("typing.")
