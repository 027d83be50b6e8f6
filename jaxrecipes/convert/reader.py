"""Reads PyTorch's `.pt` and `.pth` files without PyTorch, and without running code from them.

A file of `torch.save` is a zip archive: one pickle that describes the objects, and one raw file per
storage. The pickle may name only what is listed here; anything else is refused by name.
"""

import collections
import math
import os
import pickle
import zipfile
from collections.abc import Callable
from typing import Any, Literal

import ml_dtypes  # makes bfloat16 known to numpy
import numpy as np

_Order = Literal["<", ">"]
_STORAGES = {
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
}


class UnsafeCheckpointError(ValueError):
    """The file names something that is not plain data; nothing of it was run."""


def load_torch(path: str | os.PathLike[str], *, use_torch: bool = False) -> Any:
    """The object in a PyTorch file: nested dicts, lists, tuples, numbers, texts and numpy arrays.

    Args:
      path: a file of `torch.save` (the zip format, PyTorch 1.6 or newer).
      use_torch: read with `torch.load(weights_only=True)` instead, for older files; needs the
        extra "torch".

    Returns:
      The object; tensors and parameters are read-only numpy arrays (bfloat16 by `ml_dtypes`).

    Raises:
      FileNotFoundError: no such file.
      UnsafeCheckpointError: the file names a class or function beyond plain data.
      ValueError: not a file of PyTorch, in its format before 1.6, or damaged.
    """
    return _load_with_torch(path) if use_torch else load_archive(path, ArchiveUnpickler)


def load_archive(path: str | os.PathLike[str], unpickler: "type[ArchiveUnpickler]") -> Any:
    """`load_torch` without PyTorch, by an unpickler that may accept more names."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _load_archive(archive, str(path), unpickler)
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{path} is not a PyTorch file of the zip format (PyTorch 1.6 or newer), or it is "
            f"damaged: {error}. For an older file install jaxrecipes[torch] and pass use_torch=True"
        ) from error


def _load_archive(archive: zipfile.ZipFile, path: str, unpickler: "type[ArchiveUnpickler]") -> Any:
    names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(names) != 1:
        raise ValueError(f"{path} is a zip archive but not one of torch.save: no data.pkl in it")
    prefix = names[0].removesuffix("data.pkl")
    order: _Order = "<"
    if f"{prefix}byteorder" in archive.namelist():
        order = "<" if archive.read(f"{prefix}byteorder").strip() == b"little" else ">"
    try:
        with archive.open(names[0]) as stream:
            return _plain(unpickler(stream, archive, prefix, order).load())
    except (UnsafeCheckpointError, zipfile.BadZipFile):
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(f"{path} cannot be read: {type(error).__name__}: {error}") from error


class ArchiveUnpickler(pickle.Unpickler):
    """Unpickles plain data and tensors; every name that it accepts is listed in `find_class`."""

    def __init__(self, stream: Any, archive: zipfile.ZipFile, prefix: str, order: _Order):
        super().__init__(stream)
        self._archive, self._prefix, self._order = archive, prefix, order
        self._storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return name
        allowed: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch", "Size"): lambda sizes=(): tuple(sizes),
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
        }
        if (module, name) not in allowed:
            raise UnsafeCheckpointError(
                f"refused: the file names {module}.{name}, which is not plain data, and loading it "
                "would run code. Save the state dict alone, or plain numbers, and try again"
            )
        # A new object for each use, so that a file cannot change ours.
        chosen = allowed[module, name]
        return chosen if isinstance(chosen, type) else lambda *args: chosen(*args)

    def persistent_load(self, identifier: Any) -> np.ndarray:
        kind, storage, key, _, count = identifier
        if kind != "storage" or storage not in _STORAGES:
            raise ValueError(f"unknown storage {identifier!r}")
        if key not in self._storages:
            dtype = np.dtype(_STORAGES[storage])
            data = self._archive.read(f"{self._prefix}data/{key}")
            array = np.frombuffer(data, dtype.newbyteorder(self._order))
            if array.size < count:
                raise ValueError(f"storage {key} holds {array.size} values, {count} are declared")
            self._storages[key] = array.astype(dtype, copy=False)
        return self._storages[key]


def _rebuild_tensor(storage: np.ndarray, offset: int, size: tuple, stride: tuple, *_: Any):
    """A view of a storage, after checking that it lies inside."""
    size, stride = tuple(size), tuple(stride)
    if len(size) != len(stride) or min((offset, *size, *stride)) < 0:
        raise ValueError(f"bad tensor: offset {offset}, size {size}, stride {stride}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) and last >= storage.size:
        raise ValueError(f"a tensor of size {size} ends beyond its storage of {storage.size}")
    if not math.prod(size):
        return np.zeros(size, storage.dtype)
    strides = tuple(step * storage.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False)


def _load_with_torch(path: str | os.PathLike[str]) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError("use_torch=True needs PyTorch: pip install jaxrecipes[torch]") from error

    def array(tensor: Any) -> np.ndarray:
        tensor = tensor.detach()
        if tensor.dtype == torch.bfloat16:
            return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return tensor.numpy()

    loaded = torch.load(path, map_location="cpu", weights_only=True)
    return _plain(loaded, lambda leaf: array(leaf) if isinstance(leaf, torch.Tensor) else leaf)


def _plain(value: Any, leaf: Callable[[Any], Any] = lambda leaf: leaf) -> Any:
    """Ordered and other dicts as dicts, sizes as tuples, `leaf` applied to what is no container."""
    if isinstance(value, dict):
        return {key: _plain(item, leaf) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_plain(item, leaf) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return leaf(value)
