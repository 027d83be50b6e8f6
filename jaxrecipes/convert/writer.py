"""Writes files that `torch.load(weights_only=True)` reads, without PyTorch."""

import os
import pathlib
import pickle
import struct
import zipfile
from typing import Any

import numpy as np

from jaxrecipes.paths import check_output_file

_STORAGES = {
    "bool": "BoolStorage",
    "uint8": "ByteStorage",
    "int8": "CharStorage",
    "int16": "ShortStorage",
    "int32": "IntStorage",
    "int64": "LongStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
}


def save_torch(path: str | os.PathLike[str], value: Any) -> None:
    """Writes what `torch.save(value, path)` would write; the file appears complete or not at all.

    Args:
      path: the file to write; an existing one is replaced.
      value: nested dicts, lists and tuples of None, bools, numbers, texts and arrays. Arrays (numpy
        or JAX) become tensors.

    Raises:
      ValueError: the path is a folder, a device or a pipe.
      TypeError: the value holds anything else; the message says where.
    """
    path = pathlib.Path(path)
    check_output_file(path, what="cannot write")
    pickler = _Pickler()
    pickler.write(value, "value")
    partial = path.with_name(path.name + ".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        entries = {"data.pkl": pickler.finish(), "byteorder": b"little", "version": b"3\n"}
        entries |= {f"data/{i}": data for i, data in enumerate(pickler.storages)}
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), data)
    os.replace(partial, path)


class _Pickler:
    """Emits pickle protocol 2 by hand: a tensor names classes of torch, which is not imported."""

    def __init__(self) -> None:
        self._parts: list[bytes] = [pickle.PROTO + b"\x02"]
        self.storages: list[bytes] = []

    def finish(self) -> bytes:
        return b"".join([*self._parts, pickle.STOP])

    def _emit(self, *parts: bytes) -> None:
        self._parts += parts

    def _global(self, module: str, name: str) -> None:
        self._emit(pickle.GLOBAL, f"{module}\n{name}\n".encode())

    def write(self, value: Any, place: str) -> None:
        if value is None:
            self._emit(pickle.NONE)
        elif isinstance(value, bool):
            self._emit(pickle.NEWTRUE if value else pickle.NEWFALSE)
        elif isinstance(value, int):
            self._integer(value)
        elif isinstance(value, float):
            self._emit(pickle.BINFLOAT, struct.pack(">d", value))
        elif isinstance(value, str):
            text = value.encode("utf-8", "surrogatepass")
            self._emit(pickle.BINUNICODE, struct.pack("<I", len(text)), text)
        elif isinstance(value, dict):
            self._emit(pickle.EMPTY_DICT, pickle.MARK)
            for key, item in value.items():
                self.write(key, place)
                self.write(item, f"{place}[{key!r}]")
            self._emit(pickle.SETITEMS)
        elif isinstance(value, list | tuple):
            self._emit(*((pickle.EMPTY_LIST,) if isinstance(value, list) else ()), pickle.MARK)
            for i, item in enumerate(value):
                self.write(item, f"{place}[{i}]")
            self._emit(pickle.APPENDS if isinstance(value, list) else pickle.TUPLE)
        elif hasattr(value, "__array__") and np.asarray(value).dtype.name in _STORAGES:
            self._tensor(np.asarray(value))
        else:
            raise TypeError(f"{place}: a PyTorch file cannot hold {type(value).__name__} here")

    def _integer(self, value: int) -> None:
        if -(2**31) <= value < 2**31:
            self._emit(pickle.BININT, struct.pack("<i", value))
            return
        data = pickle.encode_long(value)
        self._emit(pickle.LONG1, bytes([len(data)]), data)

    def _tensor(self, array: np.ndarray) -> None:
        data = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
        self._global("torch._utils", "_rebuild_tensor_v2")
        self._emit(pickle.MARK)
        self._emit(pickle.MARK)
        self.write("storage", "storage")
        self._global("torch", _STORAGES[array.dtype.name])
        for field in (str(len(self.storages)), "cpu", array.size):
            self.write(field, "storage")
        self._emit(pickle.TUPLE, pickle.BINPERSID)
        stride = [int(np.prod(array.shape[i + 1 :])) for i in range(array.ndim)]
        for part in (0, tuple(array.shape), tuple(stride), False):  # offset, ..., requires_grad
            self.write(part, "tensor")
        self._global("collections", "OrderedDict")  # no backward hooks
        self._emit(pickle.EMPTY_TUPLE, pickle.REDUCE)
        self._emit(pickle.TUPLE, pickle.REDUCE)
        self.storages.append(data.tobytes())
