"""Reads the pickles in which MANO is given away, without chumpy and without running their code.

Such a file (of Python 2, or saved anew by Python 3) holds numpy arrays, sparse matrices and nodes
of chumpy, an autodiff library long out of use. Here every class and function that it names becomes
an inert `Record` of what it was called with; any name beyond those is refused. Arrays are made from
the records afterwards, and only those that are asked for.
"""

import os
from typing import Any

import numpy as np

from jaxrecipes.convert.pickled_arrays import NUMPY_NAMES, numpy_array
from jaxrecipes.convert.pickles import Record, UnsafeCheckpointError, Walk, unpickle
from jaxrecipes.files import check_content

_NAMES = NUMPY_NAMES | {
    "builtins.object",
    "builtins.set",
    "builtins.frozenset",
    "scipy.sparse.csc.csc_matrix",
    "scipy.sparse._csc.csc_matrix",
    "copy_reg._reconstructor",
    "copyreg._reconstructor",
}
"""The names that a file may use; those of chumpy come on top."""

_MOST_BYTES = 512 * 2**20  # SMPL-X, the largest of the family, takes less
_MOST_LISTED = 100_000  # numbers in lists
_MOST_FILLED = 2**24  # numbers in a sparse matrix once it is filled


def read_pickle(path: str | os.PathLike[str]) -> Any:
    """The object in a pickle: plain data, and a `Record` for everything else.

    Raises:
      FileNotFoundError: no such file.
      UnsafeCheckpointError: the file names a class or function that no MANO file needs.
      ValueError: not a pickle, or a damaged one.
    """
    check_content(path)
    if os.path.getsize(path) > _MOST_BYTES:
        raise ValueError(f"{path} is no MANO file: it has more than {_MOST_BYTES:,} bytes")
    with open(path, "rb") as stream:
        data = stream.read()
    try:
        return unpickle(data, _allowed, need="no MANO file needs")
    except UnsafeCheckpointError as error:
        raise UnsafeCheckpointError(f"{path}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path} is neither a pickle nor an npz, or it is {error}") from error


def _allowed(name: str) -> bool:
    return name in _NAMES or name.startswith("chumpy.")


def as_array(value: Any) -> np.ndarray:
    """The array of numbers that a `Record`, or plain data, stands for; sparse ones are filled.

    Raises:
      ValueError: it stands for no array of numbers, or is not consistent.
    """
    try:
        array = _array(value)
    except ValueError:
        raise
    except Exception as error:  # a file may hold anything
        raise ValueError(f"not an array: {type(error).__name__}: {error}") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"not an array of numbers but of {array.dtype}")
    return array


def _array(value: Any) -> np.ndarray:
    if not isinstance(value, Record):
        _bound(value, Walk(_MOST_LISTED), 0)
        return np.asarray(value)
    array = numpy_array(value)
    if array is not None:
        return array
    if value.name.endswith(".csc_matrix"):
        return _filled(value.state)
    if value.name.startswith("chumpy."):
        return _node(value)
    raise ValueError(f"{value.name} is no array")


def _bound(value: Any, walk: Walk, depth: int) -> None:
    walk.enter(value, depth)
    for part in value if isinstance(value, list | tuple) else ():
        _bound(part, walk, depth + 1)


def _filled(state: dict[str, Any]) -> np.ndarray:
    data, rows, starts = (_array(state[name]) for name in ("data", "indices", "indptr"))
    height, width = map(int, state["_shape" if "_shape" in state else "shape"])
    ends = starts.astype(np.int64)
    counts = ends[1:] - ends[:-1]
    if not 0 < height * width <= _MOST_FILLED:
        raise ValueError(f"a sparse matrix of {height} x {width}")
    if len(counts) != width or counts.min() < 0 or not counts.sum() == len(rows) == len(data):
        raise ValueError("a sparse matrix whose columns do not fit its values")
    dense = np.zeros((height, width), data.dtype)
    np.add.at(dense, (rows, np.repeat(np.arange(width), counts)), data)
    return dense


def _node(node: Record) -> np.ndarray:
    """The value of a constant of chumpy (`x`), or of a node that reorders another one (`a`)."""
    state = node.state
    if "idxs" in state:
        picked = _array(state["a"]).ravel()[_array(state["idxs"])]
        shape = state.get("preferred_shape")
        return picked if shape is None else picked.reshape(tuple(map(int, _array(shape))))
    if "newshape" in state:
        return _array(state["a"]).reshape(state["newshape"])
    if "axes" in state:
        return _array(state["a"]).transpose(state["axes"])
    if "x" in state:
        return _array(state["x"])
    raise ValueError(f"{node.name} is a node of chumpy that computes; only data can be read")
