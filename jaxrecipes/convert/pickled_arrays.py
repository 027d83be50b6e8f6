"""Numpy's arrays and scalars in pickles, rebuilt from the records of the calls that make them."""

import re
from typing import Any

import numpy as np

from jaxrecipes.convert.pickles import Record

_MODULES = ("numpy.core", "numpy._core")
_RECONSTRUCT, _SCALAR = "multiarray._reconstruct", "multiarray.scalar"
_FROM_BUFFER = "numeric._frombuffer"

NUMPY_NAMES = frozenset(
    {f"{m}.{name}" for m in _MODULES for name in (_RECONSTRUCT, _SCALAR, _FROM_BUFFER)}
    | {"numpy.ndarray", "numpy.dtype", "_codecs.encode"}
)
"""The names that a pickle of numpy's uses."""


def numpy_array(record: Record) -> np.ndarray | None:
    """The array of numbers that a record stands for, `[]` for a scalar; None if it is neither.

    Raises:
      ValueError: it is not one of numbers, or not consistent.
    """
    _, _, name = record.name.replace("._core.", ".core.").partition("numpy.core.")
    if name == _RECONSTRUCT:
        _, shape, dtype, fortran, data = record.state
        return _from_bytes(data, dtype, shape, "F" if fortran else "C")
    if name == _FROM_BUFFER:
        data, dtype, shape, order = record.args
        return _from_bytes(data, dtype, shape, order)
    if name == _SCALAR:
        dtype, data = record.args
        return _from_bytes(data, dtype, (), "C")
    return None


def encoded(record: Record) -> bytes:
    """The bytes of `_codecs.encode(text, "latin1")`, as Python 3 writes them for Python 2."""
    text, encoding = record.args
    if encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in an encoding other than latin1")
    return text.encode("latin1")


def _from_bytes(data: Any, dtype: Record, shape: Any, order: Any) -> np.ndarray:
    (code, *_), state = dtype.args, dtype.state
    if not re.fullmatch("b1|[iu][1248]|f[248]|c8|c16", code):
        raise ValueError(f"not an array of numbers but of {str(code)[:20]}")
    resolved = np.dtype(code).newbyteorder("<" if state is None or state[1] in "<|=" else ">")
    if isinstance(data, Record):
        data = encoded(data)
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, resolved).reshape(shape, order=order)
