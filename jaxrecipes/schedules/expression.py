"""Reads schedules from text, for configs and the command line. Nothing in the text is executed."""

import ast
import contextlib
import functools
import inspect
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxrecipes.errors import cause, hint, shortened
from jaxrecipes.schedules import kinds
from jaxrecipes.schedules.schedule import Schedule, as_schedule, constant

CONSTRUCTORS: Mapping[str, Callable[..., Schedule]] = {
    constructor.__name__: constructor
    for constructor in (
        constant,
        kinds.cosine,
        kinds.cyclic,
        kinds.delayed,
        kinds.every,
        kinds.exponential,
        kinds.join,
        kinds.linear,
        kinds.multistep,
        kinds.one_cycle,
        kinds.polynomial,
        kinds.ramp,
        kinds.scale,
        kinds.step_decay,
        kinds.warmup,
        kinds.warmup_cosine,
        kinds.warmup_linear,
    )
}

_OPERATORS: Mapping[type, Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}

_UNKNOWN = math.nan  # a dummy value that passes every comparison
_FUNCTIONS: Mapping[str, Callable[..., float]] = {
    "ceil": math.ceil,
    "floor": math.floor,
    "max": max,
    "min": min,
}


def parse(text: str, *, names: Mapping[str, float] | None = None) -> Schedule:
    """The schedule that an expression describes.

    An expression is a number, or a call of a constructor of `jaxrecipes.schedules`, whose arguments
    are expressions, tuples of them, strings, True, False or None. Numbers may be written with
    + - * /, floor(), ceil(), min() and max(), and with `names`.

    Args:
      text: for example "0.5" or "delayed(0.3, start_step=2*epoch)".
      names: numbers by name, such as {"epoch": 92.0, "run": 920.0} for the steps of one epoch and
        of the whole run.

    Raises:
      ValueError: the text is no such expression, or a constructor, argument or name is unknown; the
        message has the nearest valid one.
    """
    with _telling(text):
        schedule = _parsed(text, names or {})
        _check_gives_a_number(schedule)
        return schedule


@functools.lru_cache(maxsize=1024)
def check_text(text: str, names: tuple[str, ...] = ("epoch", "run")) -> None:
    """Checks an expression before the numbers behind `names` are known.

    Raises:
      ValueError: what `parse` raises, if no numbers could make the expression a schedule.
    """
    with _telling(text):
        _parsed(text, dict.fromkeys(names, _UNKNOWN))


@contextlib.contextmanager
def _telling(text: str) -> Iterator[None]:
    """Adds the text to errors about it."""
    try:
        yield
    except (ValueError, SyntaxError, ZeroDivisionError, OverflowError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else cause(error)
        raise ValueError(f"schedule {shortened(text, 80)!r}: {reason}") from None
    except (RecursionError, MemoryError):
        raise ValueError(f"schedule {shortened(text, 80)!r}: nested too deeply") from None


def _parsed(text: str, names: Mapping[str, float]) -> Schedule:
    value = _read(ast.parse(text.strip(), mode="eval").body, names)
    if isinstance(value, Schedule) or _is_number(value):
        return as_schedule(value)
    raise ValueError("expected a number or a schedule")


def _check_gives_a_number(schedule: Schedule) -> None:
    """Raises a ValueError for arguments that a constructor accepts but cannot use, such as `join(1,
    2)`.
    """
    try:
        shape = jax.eval_shape(schedule, jax.ShapeDtypeStruct((), np.float32)).shape
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise ValueError(f"its arguments do not fit: {cause(error)}") from error
    if shape:
        raise ValueError(f"expected a schedule of numbers, not of arrays {shape}")


def _read(node: ast.expr, names: Mapping[str, float]) -> Any:
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str()):
            return node.value
        case ast.Name(id=name):
            if name not in names:
                raise ValueError(f"unknown name {name!r}{hint(name, (*names, *CONSTRUCTORS))}")
            return float(names[name])
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return tuple(_read(item, names) for item in items)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_operand(operand, names))
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_operand(left, names), _operand(right, names))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _number_of(name, [_operand(arg, names) for arg in args])
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            return _call(name, args, keywords, names)
    raise ValueError(f"{ast.unparse(node)!r} is neither a number nor a call of a schedule")


def _call(
    name: str, args: list[ast.expr], keywords: list[ast.keyword], names: Mapping[str, float]
) -> Schedule:
    if name not in CONSTRUCTORS:
        raise ValueError(f"unknown schedule {name!r}{hint(name, (*CONSTRUCTORS, *_FUNCTIONS))}")
    constructor = CONSTRUCTORS[name]
    parameters = inspect.signature(constructor).parameters
    arguments = {}
    for keyword in keywords:
        argument = keyword.arg or "**"
        if argument not in parameters:
            raise ValueError(f"{name}() has no argument {argument!r}{hint(argument, parameters)}")
        arguments[argument] = _read(keyword.value, names)
    try:
        return constructor(*(_read(arg, names) for arg in args), **arguments)
    except TypeError as error:
        raise ValueError(f"{name}(): {error}; it takes {', '.join(parameters)}") from None


def _number_of(function: str, numbers: list[float]) -> float:
    if any(math.isnan(number) for number in numbers):
        return _UNKNOWN
    try:
        return float(_FUNCTIONS[function](*numbers))
    except TypeError as error:
        raise ValueError(f"{function}(): {cause(error)}") from None


def _operand(node: ast.expr, names: Mapping[str, float]) -> float:
    value = _read(node, names)
    if not _is_number(value):
        raise ValueError(f"{ast.unparse(node)!r} is not a number; multiply schedules with scale()")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
