"""Reads PyTorch's `.pt` and `.pth` files without PyTorch, and without running code from them.

A file of `torch.save` is a zip archive: one pickle that describes the objects, and one raw file per
storage. The pickle may name only what is listed in `torch_objects`; anything else is refused.
"""

import os
import pickle
import zipfile
from typing import Any

import ml_dtypes

from jaxrecipes.convert.pickles import UnsafeCheckpointError, unpickle
from jaxrecipes.convert.torch_objects import TorchObjects, Unread, torch_name
from jaxrecipes.errors import cause, install_command
from jaxrecipes.files import check_content

_NEED = "is not plain data (save the state dict alone, or plain numbers)"
_MOST_PICKLE_BYTES = 256 * 2**20


def load_torch(path: str | os.PathLike[str], *, use_torch: bool = False) -> Any:
    """The object in a PyTorch file: nested dicts, lists, tuples, numbers, texts and numpy arrays.

    It accepts what `torch.load(weights_only=True)` accepts. Numpy's scalars become numbers, devices
    and dtypes become texts; sparse, quantised and similar tensors become `Unread`.

    Args:
      path: a file of `torch.save` (the zip format, PyTorch 1.6 or newer).
      use_torch: read with `torch.load(weights_only=True)` instead, for older files; needs the
        extra "torch".

    Returns:
      The object; tensors and parameters are read-only numpy arrays (bfloat16 by `ml_dtypes`).

    Raises:
      FileNotFoundError: no such file.
      UnsafeCheckpointError: the file names a class or function beyond plain data.
      ValueError: not a PyTorch file, in the format before 1.6, damaged, or one that would take far
        more memory or time than its size justifies.
    """
    return _load_with_torch(path) if use_torch else load_archive(path, TorchObjects)


def load_archive(
    path: str | os.PathLike[str],
    objects: type[TorchObjects],
    *,
    more_names: tuple[str, ...] = (),
) -> Any:
    """`load_torch` without PyTorch, with objects that may know further names.

    Args:
      path: the file.
      objects: what makes plain data of the pickle.
      more_names: prefixes of further names that are allowed.
    """
    check_content(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _Archive(archive, os.path.getsize(path)).load(objects, more_names)
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{path} is not a PyTorch file of the zip format (PyTorch 1.6 or newer), or it is "
            f"damaged: {cause(error)}. For an older file install jaxrecipes[torch] and pass "
            "use_torch=True"
        ) from error
    except UnsafeCheckpointError as error:
        raise UnsafeCheckpointError(f"{path}: {error}") from None
    except Exception as error:  # what is damaged may raise anything
        raise ValueError(f"{path} cannot be read: {cause(error)}") from error


class _Archive:
    """The uncompressed entries of an archive written by `torch.save`."""

    def __init__(self, archive: zipfile.ZipFile, file_bytes: int):
        self._archive, self._file_bytes, self._left = archive, file_bytes, file_bytes
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise ValueError("a zip archive, but not one of torch.save: no data.pkl in it")
        self._prefix = names[0].removesuffix("data.pkl")

    def load(self, objects: type[TorchObjects], more_names: tuple[str, ...]) -> Any:
        order = self._read("byteorder") if self._has("byteorder") else b"little"
        data = self._read("data.pkl", most=_MOST_PICKLE_BYTES)
        found = unpickle(
            data, lambda name: torch_name(name) or name.startswith(more_names), need=_NEED
        )
        return objects(
            lambda key: self._read(f"data/{key}"),
            order="<" if order.strip() == b"little" else ">",
            pickle_bytes=len(data),
            file_bytes=self._file_bytes,
        ).plain(found)

    def _has(self, name: str) -> bool:
        return self._prefix + name in self._archive.NameToInfo

    def _read(self, name: str, *, most: int | None = None) -> bytes:
        """The bytes of an entry; all entries together may not exceed the file's size."""
        if not self._has(name):
            raise ValueError(f"it has no {name}: it is incomplete")
        entry = self._archive.getinfo(self._prefix + name)
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} in it is compressed, which no file of torch.save is")
        self._left -= entry.file_size
        if self._left < 0 or entry.file_size > (most or entry.file_size):
            raise ValueError(f"{name} in it declares {entry.file_size} bytes, too many")
        return self._archive.read(entry)


def _load_with_torch(path: str | os.PathLike[str]) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"use_torch=True needs PyTorch: {install_command('torch')}") from error

    def array(tensor: Any) -> Any:
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            return Unread("a sparse, quantised or empty tensor")
        tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
        name = str(tensor.dtype).removeprefix("torch.")
        if name == "bfloat16" or name.startswith("float8"):
            bits = tensor.view(torch.int16 if tensor.itemsize == 2 else torch.int8).numpy()
            return bits.view(getattr(ml_dtypes, name))
        return tensor.numpy()

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            items = [plain(item) for item in value]
            return items if isinstance(value, list) else tuple(items)
        if isinstance(value, torch.device | torch.dtype):
            return str(value)
        return array(value) if isinstance(value, torch.Tensor) else value

    check_content(path)
    try:
        return plain(torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: PyTorch cannot read it: {cause(error)}") from error
