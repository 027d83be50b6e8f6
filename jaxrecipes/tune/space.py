"""What a search varies: fields of a config and their ranges.

`declared_space` has the ranges that fields declare; a recipe, or a config file, may describe others
with `search_space(config) -> Space`.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxrecipes.config import field_paths, replaced, with_overrides
from jaxrecipes.errors import cause, shortened, unknown_name
from jaxrecipes.fields import (
    FieldError,
    check_fields,
    data_paths,
    hparam_paths,
    leaves_of,
    located,
)


@dataclasses.dataclass(frozen=True)
class Float:
    """A number in [low, high], uniform or, with `log`, uniform in its logarithm."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self):
        _check_range(self, self.low, self.high, self.log)

    @property
    def ends(self) -> tuple[float, ...]:
        return (self.low, self.high)

    @property
    def grid(self) -> tuple[float, ...]:
        """Five values from end to end."""
        space = np.geomspace if self.log else np.linspace
        return (self.low, *map(float, space(self.low, self.high, 5)[1:-1]), self.high)

    def __contains__(self, value: object) -> bool:
        return _is_number(value) and self.low <= value <= self.high  # type: ignore[operator]


@dataclasses.dataclass(frozen=True)
class Int:
    """A whole number: low, low + step ... up to high; uniform or, with `log`, uniform in its
    logarithm.
    """

    low: int
    high: int
    step: int = 1
    log: bool = False

    def __post_init__(self):
        _check_range(self, self.low, self.high, self.log)
        if self.step < 1 or (self.high - self.low) % self.step or (self.log and self.step > 1):
            raise ValueError(
                f"{self}: the step must be positive, lead from low to high, and be 1 with log"
            )

    @property
    def ends(self) -> tuple[int, ...]:
        return (self.low, self.high)

    @property
    def grid(self) -> tuple[int, ...]:
        """All values, or five of them from end to end."""
        values = range(self.low, self.high + 1, self.step)
        space = np.geomspace if self.log else np.linspace
        places = space(1, len(values), min(5, len(values))).round().astype(int) - 1
        return tuple(values[place] for place in places)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and value in range(self.low, self.high + 1, self.step)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some values of any type."""

    options: tuple[Any, ...]

    def __post_init__(self):
        if len(self.options) < 2:
            raise ValueError(f"{self}: expected two options or more")

    @property
    def ends(self) -> tuple[Any, ...]:
        return self.options

    @property
    def grid(self) -> tuple[Any, ...]:
        """All options."""
        return self.options

    def __contains__(self, value: object) -> bool:
        return value in self.options


Distribution = Float | Int | Choice
Values = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Space:
    """What a search varies.

    Attributes:
      parameters: field of the config (`optim.learning_rate`) -> where its values come from. Of a
        field whose value is a schedule they are factors on it.
      derived: field -> function of the config, once the parameters are set: values that follow from
        others (one weight is 1 - the other) and are not searched.
    """

    parameters: Mapping[str, Distribution]
    derived: Mapping[str, Callable[[Any], Any]] = dataclasses.field(default_factory=dict)

    def without(self, names: Collection[str]) -> "Space":
        """The space in which some fields are fixed."""
        return Space(
            {name: d for name, d in self.parameters.items() if name not in names},
            {name: f for name, f in self.derived.items() if name not in names},
        )

    def with_parameters(self, parameters: Mapping[str, Distribution]) -> "Space":
        """The space with other or more parameters."""
        return Space({**self.parameters, **parameters}, self.without(parameters).derived)

    def grid(self) -> Iterator[dict[str, Any]]:
        """Every combination of the parameters' grids, the last parameter moving first."""
        for values in itertools.product(*(d.grid for d in self.parameters.values())):
            yield dict(zip(self.parameters, values, strict=True))

    def start(self, base: Any) -> dict[str, Any]:
        """The values of the first trial: the config's own, where the space holds them."""
        values = {name: value_at(base, name) for name in self.parameters}
        return {name: value for name, value in values.items() if value in self.parameters[name]}

    def config(self, base: Any, values: Values) -> Any:
        """The config of a trial.

        Raises:
          ValueError: values that the config refuses.
        """
        schedules = {path for path in data_paths(base) if isinstance(value_at(base, path), str)}
        own = {
            name: f"scale({value_at(base, name)}, {value!r})" if name in schedules else value
            for name, value in values.items()
        }
        try:
            config = replaced(base, own)
            config = replaced(config, {name: make(config) for name, make in self.derived.items()})
        except FieldError as error:
            raise located(error, type(base)) from None
        check_fields(config)
        return config

    def check(self, base: Any, check_config: Callable[[Any], Any]) -> None:
        """Checks the space before any time is spent.

        Args:
          base: the config that trials start from.
          check_config: raises a ValueError for a config that a trial would be refused for.

        Raises:
          ValueError: nothing to search, a name that is no field (names the nearest), or the end of
            a range that the config refuses.
        """
        if not self.parameters:
            raise ValueError(
                "there is nothing to search: every parameter of the space is fixed; "
                "add one with --search FIELD=LOW:HIGH"
            )
        fields, logged = list(field_paths(base)), hparam_paths(base)
        for name, distribution in self.parameters.items():
            if name in logged and name not in fields:
                raise ValueError(
                    f"the parameter to search {name!r} is the hyperparameter's name in the log; "
                    f"its field is {logged[name]}"
                )
            if name not in fields:
                raise unknown_name("parameter to search", name, fields)
            for value in distribution.ends:
                try:
                    check_config(self.config(base, {name: value}))
                except ValueError as error:
                    raise ValueError(f"search of {name}: at {value!r}, {error}") from error
        for name in self.derived:
            if name not in fields:
                raise ValueError(f"derived field {name!r} is no field of the config")


def declared_space(config: Any) -> Space:
    """The ranges that the fields of a config declare for its hyperparameters, see `fields.hparam`.

    A schedule has one only where the range is in multiples of the config's value.
    """
    parameters: dict[str, Distribution] = {}
    for leaf in leaves_of(config):
        declared = leaf.declared
        if declared.search is None:
            continue
        factor = 1.0
        if isinstance(leaf.value, str):
            if not declared.relative:
                continue
        elif declared.relative:
            factor = leaf.value
        if factor > 0:
            low, high = (factor * end for end in declared.search)
            parameters[leaf.path] = Float(low, high, log=declared.log)
    return Space(parameters)


def parse_parameter(text: str, base: Any) -> tuple[str, Distribution]:
    """The parameter that `FIELD=LOW:HIGH`, `FIELD=LOW:HIGH:log`, `FIELD=LOW:HIGH:STEP` or
    `FIELD=A,B,C` describes.

    Whole numbers are searched as such where the field's value is one; options are written as on
    the command line.

    Raises:
      ValueError: text that cannot be read so.
    """
    name, equals, values = text.partition("=")
    given = f"--search {shortened(text, 80)!r}"
    wanted = f"{given}: expected FIELD=LOW:HIGH[:log], FIELD=LOW:HIGH:STEP or FIELD=A,B,C"
    if not equals or not values:
        raise ValueError(wanted)
    if ":" not in values:
        return name, Choice(tuple(_option(name, option, base) for option in values.split(",")))
    low, high, *more = values.split(":")
    log = more == ["log"]
    try:
        if _is_whole(value_at(base, name)):
            step = int(more[0]) if more and not log else 1
            return name, Int(int(low), int(high), step=step, log=log)
        if len(more) > int(log):
            raise ValueError(wanted)
        return name, Float(float(low), float(high), log=log)
    except ValueError as error:
        raise ValueError(f"{given}: {cause(error)}") from error


def fixed_fields(base: Any, overrides: Iterable[str]) -> set[str]:
    """The fields that flags such as `["--optim.learning_rate", "1e-3"]` set; they are not
    searched.
    """
    flags = (flag[2:].partition("=")[0] for flag in overrides if flag.startswith("--"))
    names = {flag.replace("-", "_") for flag in flags}
    return {p for p in field_paths(base) if p in names or _switched_off(p) in names}


def value_at(config: Any, path: str) -> Any:
    """The value of a field by its dotted name; None where there is no such field."""
    for name in path.split("."):
        config = getattr(config, name, None)
    return config


def _option(name: str, text: str, base: Any) -> Any:
    return value_at(with_overrides(base, [f"--{name}", text], "CONFIG"), name)


def _check_range(distribution: Distribution, low: float, high: float, log: bool) -> None:
    if not low < high or (log and low <= 0) or not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(
            f"{distribution}: expected low < high, both finite, and low above 0 with log"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _switched_off(path: str) -> str:
    head, dot, last = path.rpartition(".")
    return f"{head}{dot}no_{last}"
