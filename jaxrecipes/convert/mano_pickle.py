"""Reads the pickles in which MANO is given away, without chumpy and without running their code.

Such a file (of Python 2, or saved anew by Python 3) holds numpy arrays, sparse matrices and nodes
of chumpy, an autodiff library long out of use. Here every class and function that it names becomes
an inert `Record` of what it was called with; any name beyond those is refused. Arrays are made from
the records afterwards, and only those that are asked for.
"""

import os
import pickle
import re
from typing import Any, ClassVar

import numpy as np

from jaxrecipes.convert.reader import UnsafeCheckpointError

_BUILTINS = ("__builtin__", "builtins")
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
_SPARSE = ("scipy.sparse.csc", "scipy.sparse._csc")
_NAMES = {
    **{(module, name): name for module in _BUILTINS for name in ("object", "set", "frozenset")},
    **{(module, name): name for module in _MULTIARRAY for name in ("_reconstruct", "scalar")},
    **{(module, "_frombuffer"): "_frombuffer" for module in _NUMERIC},
    **{(module, "csc_matrix"): "csc_matrix" for module in _SPARSE},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
}
"""The names that a file may use, and what each is; those of chumpy come on top."""


class Record:
    """What a file would have called, with which arguments, and the state it would have set."""

    kind: ClassVar[str]
    name: ClassVar[str]
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> "Record":
        """Keeps the arguments; nothing is called."""
        record = super().__new__(cls)
        record.args, record.state = args, None
        return record

    def __setstate__(self, state: Any) -> None:
        """Keeps the state."""
        self.state = state


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor")):
            return lambda kind, base, state: kind()
        kind = "chumpy" if module.split(".")[0] == "chumpy" else _NAMES.get((module, name))
        if kind is None:
            raise UnsafeCheckpointError(
                f"refused: the file names {module}.{name}, which no MANO file needs, and loading "
                "it would run code; nothing of the file was run"
            )
        # A new class for each use, so that a file cannot change ours.
        return type(name, (Record,), {"kind": kind, "name": f"{module}.{name}"})


def read_pickle(path: str | os.PathLike[str]) -> Any:
    """The object in a pickle: plain data, and a `Record` for everything else.

    Raises:
      FileNotFoundError: no such file.
      UnsafeCheckpointError: the file names a class or function that no MANO file needs.
      ValueError: not a pickle, or a damaged one.
    """
    with open(path, "rb") as stream:
        try:
            return _Unpickler(stream, encoding="latin1").load()
        except UnsafeCheckpointError as error:
            raise UnsafeCheckpointError(f"{path}: {error}") from None
        except Exception as error:  # a damaged pickle may raise anything
            raise ValueError(
                f"{path} is neither a pickle nor an npz, or it is damaged: "
                f"{type(error).__name__}: {error}"
            ) from error


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
        return np.asarray(value)
    match value.kind:
        case "_reconstruct":
            _, shape, dtype, fortran, data = value.state
            return _from_bytes(data, dtype, shape, "F" if fortran else "C")
        case "_frombuffer":
            data, dtype, shape, order = value.args
            return _from_bytes(data, dtype, shape, order)
        case "scalar":
            dtype, data = value.args
            return _from_bytes(data, dtype, (), "C")
        case "csc_matrix":
            return _filled(value.state)
        case "chumpy":
            return _node(value)
    raise ValueError(f"{value.name} is no array")


def _from_bytes(data: Any, dtype: Record, shape: Any, order: Any) -> np.ndarray:
    (code, *_), state = dtype.args, dtype.state
    if not re.fullmatch("b1|[iuf][1248]", code):
        raise ValueError(f"not an array of numbers but of {code}")
    resolved = np.dtype(code).newbyteorder("<" if state is None or state[1] in "<|=" else ">")
    if isinstance(data, Record):  # bytes, as Python 3 writes them for Python 2
        data, _ = data.args
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, resolved).reshape(shape, order=order)


def _filled(state: dict[str, Any]) -> np.ndarray:
    data, rows, starts = (_array(state[name]) for name in ("data", "indices", "indptr"))
    shape = tuple(map(int, state["_shape" if "_shape" in state else "shape"]))
    dense = np.zeros(shape, data.dtype)
    np.add.at(dense, (rows, np.repeat(np.arange(shape[1]), np.diff(starts))), data)
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
