"""Reads the values of a file's dicts, each checked for its type and bounds."""

import contextlib
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

import numpy as np
import typeguard

from jaxrecipes.bounds import wrong
from jaxrecipes.convert.rules import ConversionError
from jaxrecipes.errors import cause
from jaxrecipes.fields import numbers, plain, wrong_type


class Fields:
    """A dict in a file.

    Args:
      values: what the file holds there.
      where: the place, such as "optimizer_state".

    Raises:
      ConversionError: it is not a dict.
    """

    def __init__(self, values: Any, where: str):
        if not isinstance(values, Mapping):
            raise ConversionError(f"{where} {wrong_type(values, dict)}")
        self._values, self._where = values, where

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def __bool__(self) -> bool:
        return bool(self._values)

    def get(self, key: str, hint: Any, *default: Any, infinite: bool = False) -> Any:
        """The value of a key.

        Args:
          key: the key.
          hint: the type that it must have, with bounds as in `jaxrecipes.fields`. A float may be a
            whole number, a tensor of one number counts as that number, and a list as a tuple.
          default: the value if the key is absent or None; without a default that is an error.
          infinite: whether a float may be infinite.

        Raises:
          ConversionError: the key is absent, or its value has another type or is out of bounds.
        """
        value = self._values.get(key)
        if value is None and default:
            return default[0]
        if key not in self._values:
            raise ConversionError(f"{self._where} has no {key!r}")
        return taken(value, hint, f"{self._where} {key!r}", infinite=infinite)

    def inner(self, key: str) -> "Fields":
        """The dict under a key; an empty one if it is absent or None."""
        value = self._values.get(key)
        return Fields({} if value is None else value, f"{self._where} {key!r}")

    def first(self, key: str, hint: Any) -> Any:
        """The first value of a list; torch has one for each parameter group."""
        values = self.get(key, list)
        if not values:
            raise ConversionError(f"{self._where} {key!r} is empty")
        return taken(values[0], hint, f"{self._where} {key!r}")


def taken(value: Any, hint: Any, where: str, *, infinite: bool = False) -> Any:
    """The value, checked for the type and the bounds of `hint`; see `Fields.get`."""
    kind = plain(hint)
    if isinstance(value, np.ndarray | np.generic) and np.size(value) == 1 and kind in (int, float):
        value = np.asarray(value).item()
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, list) and getattr(kind, "__origin__", None) is tuple:
        value = tuple(value)
    try:
        typeguard.check_type(value, hint)
    except typeguard.TypeCheckError:
        raise ConversionError(f"{where} {wrong_type(value, hint)}") from None
    for entry, number, number_kind, bounds in numbers(value, hint):
        if infinite and isinstance(number, float) and math.isinf(number):
            continue
        problem = (
            wrong_type(number, number_kind)
            if isinstance(number, bool)
            else wrong(number, bounds, "value")
        )
        if problem is not None:
            raise ConversionError(f"{where}{entry} {problem}")
    return float(value) if kind is float else value


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Puts the file's name at the start of a message about its content."""
    try:
        yield
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ConversionError(f"{path}: {error}") from error


@contextlib.contextmanager
def telling(what: str) -> Iterator[None]:
    """Reports that `what` cannot be told from a file that lacks the tensors needed, or has them in
    other shapes.
    """
    try:
        yield
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise ConversionError(f"{what} cannot be inferred: {cause(error)}") from error


def given(value: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether a value from a file is neither None nor an empty dict."""
    return value is not None and not (isinstance(value, Mapping) and not value)
