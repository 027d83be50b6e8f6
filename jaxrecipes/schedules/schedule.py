"""The class of all schedules, and the decorator that turns a formula into a constructor."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Number: TypeAlias = float | Array
P = ParamSpec("P")

_POSITIVE = frozenset({"steps", "total_steps", "step_size", "step_size_up", "step_size_down"})
_CHOICES = {"mode": ("triangular", "triangular2", "exp_range"), "anneal": ("cos", "linear")}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Schedule:
    """A function of the step; built by the constructors of `jaxrecipes.schedules`, not by hand.

    Equal when kind, options and all numbers are equal; its `repr` is the call that builds it, which
    `jaxrecipes.schedules.parse` reads back.

    Attributes:
      kind: the constructor.
      numbers: its numeric arguments by name, the leaves: floats, arrays, tuples, other schedules.
      options: its remaining arguments as (name, value) pairs, part of the structure.
    """

    kind: Callable[..., "Schedule"] = dataclasses.field(metadata={"static": True})
    numbers: dict[str, Any]
    options: tuple[tuple[str, Any], ...] = dataclasses.field(default=(), metadata={"static": True})

    def __call__(self, step: Array | int) -> Array:
        """The value at `step` (an int or a scalar array, traced or not) as a float32 scalar."""
        formula = self.kind.__wrapped__  # type: ignore[attr-defined]
        numbers = jax.tree.map(
            lambda x: x if isinstance(x, Schedule) else jnp.asarray(x, jnp.float32),
            self.numbers,
            is_leaf=lambda x: isinstance(x, Schedule),
        )
        value = formula(jnp.asarray(step, jnp.float32), **numbers, **dict(self.options))
        return jnp.asarray(value, jnp.float32)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        structure: Any = jax.tree.structure(self)
        if structure != jax.tree.structure(other):
            return False
        return all(map(np.array_equal, jax.tree.leaves(self), jax.tree.leaves(other)))

    def __hash__(self) -> int:
        leaves, structure = jax.tree.flatten(self)
        return hash((structure, tuple(leaves)))

    def __repr__(self) -> str:
        arguments = self.numbers | dict(self.options)
        parts = []
        for name, parameter in inspect.signature(self.kind).parameters.items():
            value = arguments[name]
            default = parameter.default
            if value is default or (isinstance(value, float) and value == default):
                continue
            prefix = f"{name}=" if parameter.kind is parameter.KEYWORD_ONLY else ""
            parts.append(prefix + _text(value))
        return f"{self.kind.__name__}({', '.join(parts)})"


ScheduleLike: TypeAlias = Schedule | Number | Callable[[Any], Any]


def constructor(formula: Callable[Concatenate[Array, P], Any]) -> Callable[P, Schedule]:
    """Turns `formula(step, *arguments) -> value` into `constructor(*arguments) -> Schedule`.

    Arguments whose default is a string or a bool are options; all others are numbers: floats,
    arrays, tuples of them, schedules, or functions of the step. When the formula runs, numbers are
    float32 arrays.
    """
    signature = inspect.signature(formula)
    signature = signature.replace(
        parameters=list(signature.parameters.values())[1:], return_annotation=Schedule
    )

    @functools.wraps(formula)
    def build(*args: P.args, **kwargs: P.kwargs) -> Schedule:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        numbers: dict[str, Any] = {}
        options: list[tuple[str, Any]] = []
        for name, value in bound.arguments.items():
            default = signature.parameters[name].default
            if isinstance(default, str | bool):
                _check_option(build.__name__, name, value, type(default))
                options.append((name, value))
            else:
                numbers[name] = _number(build.__name__, name, value)
        return Schedule(build, numbers, tuple(options))

    build.__signature__ = signature  # type: ignore[attr-defined]
    return build


def as_schedule(value: ScheduleLike) -> Schedule:
    """Makes a schedule of a number (a constant), or of any function of the step, such as optax's;
    returns a schedule unchanged.

    A wrapped function is part of the structure: its own numbers are not leaves.

    Raises:
      ValueError: none of these.
    """
    if isinstance(value, Schedule):
        return value
    if callable(value):
        return Schedule(from_function, {}, (("function", value),))
    return constant(value)


@constructor
def constant(step: Array, value: Number) -> Number:
    """Always `value`."""
    return value


@constructor
def from_function(step: Array, function: Callable[[Array], Any]) -> Any:
    """Calls `function` with the step as an int32 scalar."""
    return function(step.astype(jnp.int32))


def evaluate(hparams: Mapping[str, ScheduleLike], step: Array | int) -> dict[str, Array]:
    """Every hyperparameter at one step, as float32 scalars by name."""
    return {name: as_schedule(value)(step) for name, value in hparams.items()}


def _number(kind: str, name: str, value: Any) -> Any:
    """`value` as leaves whose type never changes later: Python numbers become floats."""
    if value is None or isinstance(value, Schedule):
        return value
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        if name in _POSITIVE and value <= 0:
            raise ValueError(f"{kind}({name}={value}): expected a positive number of steps")
        return float(value)
    if isinstance(value, list | tuple):
        return tuple(_number(kind, name, item) for item in value)
    if isinstance(value, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
        return value
    if callable(value):
        return as_schedule(value)
    raise ValueError(
        f"{kind}({name}={value!r}): expected a number or a schedule; text is read by "
        f"schedules.parse"
    )


def _check_option(kind: str, name: str, value: Any, wanted: type) -> None:
    choices = _CHOICES.get(name)
    if not isinstance(value, wanted) or (choices and value not in choices):
        listed = " or ".join(map(repr, choices or (False, True)))
        raise ValueError(f"{kind}({name}={value!r}): expected {listed}")


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_text, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, float) and math.isinf(value):
        return "1e999" if value > 0 else "-1e999"  # a literal that Python reads as an infinity
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return repr(int(value))
    return repr(value)
