"""What a search varies: fields of a config, or hyperparameters of a recipe, and their ranges.

`configs/NAME.py` describes its own with `search_space(config) -> Space`, beside `get_config`.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from annotated_types import Interval

from jaxrecipes.config import field_paths, with_overrides
from jaxrecipes.errors import cause, hint, shortened
from jaxrecipes.fields import FieldError, check_fields, declared_hparams, located, wrong
from jaxrecipes.schedules import Schedule, constant
from jaxrecipes.train.hparams import hparam_bounds


@dataclasses.dataclass(frozen=True)
class Float:
    """A number in [low, high], uniform or, with `log`, uniform in its logarithm."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self):
        _check_range(self, self.low, self.high, self.log)

    def at(self, fraction: float) -> float:
        """The number at a fraction of the range."""
        if self.log:
            return math.exp(
                math.log(self.low) + fraction * (math.log(self.high) - math.log(self.low))
            )
        return self.low + fraction * (self.high - self.low)

    @property
    def ends(self) -> tuple[float, ...]:
        return (self.low, self.high)

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

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and value in range(self.low, self.high + 1, self.step)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some values of any type."""

    options: tuple[Any, ...]

    def __post_init__(self):
        if len(self.options) < 2:
            raise ValueError(f"{self}: want two options or more")

    @property
    def ends(self) -> tuple[Any, ...]:
        return self.options

    def __contains__(self, value: object) -> bool:
        return value in self.options


Distribution = Float | Int | Choice
Values = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Space:
    """What a search varies.

    Attributes:
      parameters: field of the config (`optim.learning_rate`), or hyperparameter of the recipe that
        is a constant (`loss_weight/bce`) -> where its values come from.
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

    def config(self, base: Any, values: Values) -> Any:
        """The config of a trial.

        A hyperparameter that is no field becomes a constant schedule, so that the config says all.

        Raises:
          ValueError: values that the config refuses.
        """
        fields = set(field_paths(base))
        own = {name: value for name, value in values.items() if name in fields}
        texts = {name: repr(float(v)) for name, v in values.items() if name not in fields}
        own |= {"schedules": base.schedules | texts} if texts else {}
        try:
            config = _replaced(base, own)
            config = _replaced(config, {name: make(config) for name, make in self.derived.items()})
        except FieldError as error:
            raise located(error, type(base)) from None
        check_fields(config)
        return config

    def check(
        self, base: Any, hparams: Mapping[str, Schedule], check_config: Callable[[Any], Any]
    ) -> None:
        """Checks the space before any time is spent.

        Args:
          base: the config that trials start from.
          hparams: the recipe's hyperparameters under it.
          check_config: raises a ValueError for a config that a trial would be refused for.

        Raises:
          ValueError: nothing to search; a name that is neither a field nor a hyperparameter (names
            the nearest), a hyperparameter that a schedule moves, or the end of a range that the
            config refuses.
        """
        if not self.parameters:
            raise ValueError(
                "there is nothing to search: every parameter of the space is fixed; "
                "add one with --search FIELD=LOW:HIGH"
            )
        fields = list(field_paths(base))
        for name, distribution in self.parameters.items():
            if name not in fields:
                _check_hyperparameter(name, distribution, fields, hparams, declared_hparams(base))
            for value in distribution.ends:
                try:
                    check_config(self.config(base, {name: value}))
                except ValueError as error:
                    raise ValueError(f"search of {name}: at {value!r}, {error}") from error
        for name in self.derived:
            if name not in fields:
                raise ValueError(f"derived field {name!r} is no field of the config")


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
    wanted = f"{given}: want FIELD=LOW:HIGH[:log], FIELD=LOW:HIGH:STEP or FIELD=A,B,C"
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


def _replaced(config: Any, values: Values) -> Any:
    """The config with fields set all at once, so that its checks see the final combination."""
    inner: dict[str, dict[str, Any]] = {}
    changes: dict[str, Any] = {}
    for path, value in values.items():
        head, dot, rest = path.partition(".")
        if dot:
            inner.setdefault(head, {})[rest] = value
        else:
            changes[head] = value
    changes |= {head: _replaced(getattr(config, head), rest) for head, rest in inner.items()}
    return dataclasses.replace(config, **changes) if changes else config


def _check_hyperparameter(
    name: str,
    distribution: Distribution,
    fields: list[str],
    hparams: Mapping[str, Schedule],
    declared: Mapping[str, Interval],
) -> None:
    if name not in hparams:
        raise ValueError(f"unknown parameter to search {name!r}{hint(name, [*fields, *hparams])}")
    if hparams[name].kind is not constant:
        raise ValueError(
            f"the hyperparameter {name!r} follows the schedule {hparams[name]}; "
            "search the fields of the config that it is made of"
        )
    if not all(map(_is_number, distribution.ends)):
        raise ValueError(f"the hyperparameter {name!r} is a number; {distribution} is not")
    for value in distribution.ends:
        problem = wrong(float(value), hparam_bounds(name, declared), name)
        if problem is not None:
            raise ValueError(f"search of {name}: the hyperparameter {problem}")


def _option(name: str, text: str, base: Any) -> Any:
    if text in ("True", "False") and isinstance(value_at(base, name), bool):
        return text == "True"
    return value_at(with_overrides(base, [f"--{name}", text], "CONFIG"), name)


def _check_range(distribution: Distribution, low: float, high: float, log: bool) -> None:
    if not low < high or (log and low <= 0) or not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{distribution}: want low < high, both finite, and low above 0 with log")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _switched_off(path: str) -> str:
    head, dot, last = path.rpartition(".")
    return f"{head}{dot}no_{last}"
