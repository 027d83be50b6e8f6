"""The fields of configs: their types, the bounds of their numbers, and which are hyperparameters.

A number's bounds are declared once, by its type: `decay: Share = 0.999`, or for a single field
`yaw_index: Annotated[int, Interval(ge=0, le=2)] = 0`. No number may be NaN, infinite or too large
for 32 bits, because the step computes with 32 bits.

A hyperparameter is declared where it lives: `dropout: Hparam[Share] = hparam(0.1)`. Its value is a
number, a `Schedule`, or a schedule written as text.
"""

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeVar, Union

import typeguard
from annotated_types import Interval

from jaxrecipes import errors
from jaxrecipes.bounds import bounds_of, is_union, shown, wrong
from jaxrecipes.schedules import Schedule, check_text

T = TypeVar("T")

Hparam = Union[T, Schedule, str]  # noqa: UP007 (X | Y takes no type variable)
"""The type of a hyperparameter's field: a number, a schedule, or a schedule's text, which is what a
config keeps. Numbers have the bounds of T.
"""

NonNegative = Annotated[float, Interval(ge=0)]
Positive = Annotated[float, Interval(gt=0)]
Probability = Annotated[float, Interval(ge=0, le=1)]
Share = Annotated[float, Interval(ge=0, lt=1)]
"""A fraction that may be 0 but not 1, such as a decay or a dropout rate."""
Fraction = Annotated[float, Interval(gt=0, lt=1)]
Count = Annotated[int, Interval(ge=1)]
Layers = Annotated[int, Interval(ge=1, lt=1000)]
Pixels = Annotated[int, Interval(ge=1, lt=2**15)]
CountOrZero = Annotated[int, Interval(ge=0)]
Seed = Annotated[int, Interval(ge=0, lt=2**32)]


class FieldError(ValueError):
    """A field does not allow a value; the message says `Class.field is ...` until `located`
    replaces it by the dotted name.

    Attributes:
      owner: the dataclass.
      field: the field's name, with the entry if it is about one: `std[0]`.
      problem: the rest of the message.
    """

    def __init__(self, owner: type, field: str, problem: str):
        super().__init__(f"{owner.__name__}.{field} {problem}")
        self.owner, self.field, self.problem = owner, field, problem


class Checked:
    """A dataclass that cannot be created with values of the wrong type or out of bounds.

    A subclass with its own `__post_init__` calls this one first. A schedule is kept as text, so
    that a config is plain data.
    """

    def __post_init__(self) -> None:
        for name, value in list(vars(self).items()):
            if isinstance(value, Schedule):
                object.__setattr__(self, name, repr(value))
        _check_own_fields(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Declared:
    """What a field declares about its hyperparameter; see `hparam`."""

    name: str = ""
    search: tuple[float, float] | None = None
    log: bool = False
    relative: bool = False
    when: Callable[[Any], bool] | None = None
    off_at_zero: bool = False
    in_program: bool = False


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A hyperparameter of a config.

    Attributes:
      path: dotted name of its field.
      name: its name in the state, the log and the history.
      value: a number, or a schedule's text.
      declared: what the field declares about it.
    """

    path: str
    name: str
    value: float | str
    declared: Declared


def hparam(
    default: T,
    *,
    name: str = "",
    search: tuple[float, float] | None = None,
    log: bool = False,
    relative: bool = False,
    when: Callable[[Any], bool] | None = None,
    off_at_zero: bool = False,
    in_program: bool = False,
) -> T:
    """Declares a field as a hyperparameter: a leaf of the state, not a constant of the program.

    If its value is None, there is no such hyperparameter.

    Args:
      default: the field's default value.
      name: its name in the state, the log and the history; "": the field's name. `{kind}` stands
        for the value of the neighbouring field `kind`.
      search: the range that `tune` draws from unless told otherwise; None: it is not searched.
      log: the range is uniform in the logarithm.
      relative: the range is in multiples of the config's value.
      when: function of the dataclass with this field that says whether the hyperparameter exists;
        None: always.
      off_at_zero: the number 0 turns off the operation of which this is the probability or
        strength: the hyperparameter is left out, and so is the operation.
      in_program: the program depends on the value as well, and is recompiled if it changes.
    """
    declared = Declared(
        name=name,
        search=search,
        log=log,
        relative=relative,
        when=when,
        off_at_zero=off_at_zero,
        in_program=in_program,
    )
    return dataclasses.field(default=default, metadata={"hparam": declared})


def shapes_schedules(default: T) -> T:
    """Declares a field that affects the program only through the schedules made from it."""
    return dataclasses.field(default=default, metadata={"shapes_schedules": True})


def check_fields(config: Any) -> None:
    """Checks a config, which may be any dataclass, and the configs inside it.

    Raises:
      ValueError: names the first field whose value is not of the declared type, or out of bounds.
    """
    try:
        for _, part in _parts(config):
            _check_own_fields(part)
    except FieldError as error:
        raise located(error, type(config)) from None


def located(error: FieldError, config_type: type) -> ValueError:
    """The same error with the field's dotted name in a config of this type: `optim.b1 is 2.0;
    ...`.
    """
    paths = [path for path, owner in _sections(config_type) if owner is error.owner]
    return ValueError(f"{paths[0]}{error.field} {error.problem}") if len(paths) == 1 else error


def declared_hparams(*configs: Any) -> dict[str, Interval]:
    """The bounds of every hyperparameter that these configs, and configs inside them, declare,
    whether it exists now or not.
    """
    return {
        _leaf_name(part, field): bounds_of(type_hints(type(part))[field.name])
        for config in configs
        for _, part in _parts(config)
        for field in dataclasses.fields(part)
        if "hparam" in field.metadata
    }


def leaves_of(config: Any) -> list[Leaf]:
    """The hyperparameters that a config, and the configs inside it, have now."""
    found = []
    for path, part in _parts(config):
        for field in dataclasses.fields(part):
            declared, value = field.metadata.get("hparam"), getattr(part, field.name)
            if declared is None or value is None or not _has_it(part, field):
                continue
            if not (declared.off_at_zero and value == 0):
                name = _leaf_name(part, field)
                found.append(Leaf(f"{path}{field.name}", name, value, declared))
    return found


def hparam_paths(config: Any) -> dict[str, str]:
    """Maps the name of each hyperparameter that a config could have to the dotted name of its
    field.
    """
    fields = [
        (part, path, field)
        for path, part in _parts(config)
        for field in dataclasses.fields(part)
        if "hparam" in field.metadata
    ]
    # If two fields declare the same name, the one that has it now wins.
    fields.sort(key=lambda item: _has_it(item[0], item[2]))
    return {_leaf_name(part, field): f"{path}{field.name}" for part, path, field in fields}


def _has_it(part: Any, field: dataclasses.Field) -> bool:
    when = field.metadata["hparam"].when
    return when is None or when(part)


def data_paths(config: Any) -> set[str]:
    """The dotted names of the fields on which programs depend only through the structure of their
    hyperparameters: the hyperparameters themselves, and fields that only shape their schedules.
    """
    return {
        f"{path}{field.name}"
        for path, part in _parts(config)
        for field in dataclasses.fields(part)
        if "shapes_schedules" in field.metadata
        or ("hparam" in field.metadata and not field.metadata["hparam"].in_program)
    }


def ordered(low: Any, high: Any) -> bool:
    """Whether low <= high; true if one is a schedule, because schedules are compared over the
    run.
    """
    return isinstance(low, str) or isinstance(high, str) or low <= high


def _leaf_name(part: Any, field: dataclasses.Field) -> str:
    name = field.metadata["hparam"].name or field.name
    return name.format_map(vars(part)) if "{" in name else name


def is_hparam(hint: Any) -> bool:
    """Whether a type is `Hparam[...]`."""
    return Schedule in typing.get_args(hint)


def plain(hint: Any) -> Any:
    """The type without its annotations."""
    return hint.__origin__ if typing.get_origin(hint) is Annotated else hint


def numbers(value: Any, hint: Any, entry: str = "") -> Iterator[tuple[str, Any, type, Interval]]:
    """Every number in a value of this type: `(entry, number, int or float, bounds)`."""
    kind = plain(hint)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind in (int, float):
        if isinstance(value, int | float):
            yield entry, value, kind, bounds_of(hint)
    elif is_union(kind):
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
    """Raises a FieldError for the first field whose value is not what it declares."""
    for field in dataclasses.fields(config):
        value, hint = getattr(config, field.name), type_hints(type(config))[field.name]
        try:
            typeguard.check_type(value, hint)
        except typeguard.TypeCheckError:
            raise FieldError(type(config), field.name, wrong_type(value, hint)) from None
        if isinstance(value, str) and "hparam" in field.metadata:
            problem = _wrong_schedule(value, hint)
            if problem is not None:
                raise FieldError(type(config), field.name, problem)
    check_numbers(config)


def _wrong_schedule(text: str, hint: Any) -> str | None:
    """What is wrong with a hyperparameter's text; None if nothing."""
    try:
        float(text)
    except ValueError:
        try:
            check_text(text)
        except ValueError as error:
            return f"is no number and no schedule: {error}"
        return None
    return wrong_type(text, hint)


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


def _parts(config: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The config and the configs inside it, each with its dotted path."""
    yield path, config
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _parts(value, f"{path}{field.name}.")


def _sections(owner: type, path: str = "") -> Iterator[tuple[str, type]]:
    """The dataclass and the dataclasses that are types of its fields, each with its dotted path."""
    yield path, owner
    for name, hint in type_hints(owner).items():
        for option in _options(hint):
            if dataclasses.is_dataclass(option):
                yield from _sections(typing.cast(type, option), f"{path}{name}.")


def _options(hint: Any) -> tuple[Any, ...]:
    """The members of a union; any other type by itself."""
    return typing.get_args(hint) if is_union(hint) else (hint,)


def wrong_type(value: Any, hint: Any) -> str:
    """What is wrong with a value of the wrong type: `is 'a' (str); expected float`."""
    choices = [x for option in _options(hint) for x in typing.get_args(option)]
    if isinstance(value, str) and choices and all(isinstance(x, str) for x in choices):
        return f"is {shown(value)}{errors.hint(value, choices)}"
    return f"is {shown(value)} ({type(value).__name__}); expected {_type_text(hint)}"


def _type_text(hint: Any) -> str:
    """The type as it is written in the source, without its bounds."""
    if typing.get_origin(hint) is Annotated:
        return _type_text(hint.__origin__)
    if is_hparam(hint):
        numbers_only = [o for o in typing.get_args(hint) if o not in (Schedule, str)]
        return " | ".join((*map(_type_text, numbers_only), "a schedule"))
    if is_union(hint):
        return " | ".join(_type_text(option) for option in typing.get_args(hint))
    args = typing.get_args(hint)
    if typing.get_origin(hint) in (tuple, dict):
        inner = ", ".join("..." if arg is Ellipsis else _type_text(arg) for arg in args)
        return f"{typing.get_origin(hint).__name__}[{inner}]"
    if hint is types.NoneType:
        return "None"
    return getattr(hint, "__name__", "") if not args else str(hint).removeprefix("typing.")
