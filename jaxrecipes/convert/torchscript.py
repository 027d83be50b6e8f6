"""Reads the tensors of a TorchScript archive (`torch.jit.save`) without PyTorch and without code.

Such an archive has the form of `torch.save`'s, with the program's source beside the pickled module.
The source is ignored: of each module, whatever its class, only the attributes are read.
"""

import os
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxrecipes.convert.pickles import Record
from jaxrecipes.convert.reader import load_archive
from jaxrecipes.convert.torch_objects import TorchObjects
from jaxrecipes.errors import cause

_MODULE, _TYPED_LIST = "__torch__.", "torch.jit._pickle."


def is_torchscript(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a TorchScript archive; false also if there is no such file."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is a damaged zip archive: {cause(error)}") from error


def load_torchscript(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The parameters and buffers of the module in an archive, by the keys of its state dict.

    Raises:
      FileNotFoundError: no such file.
      UnsafeCheckpointError: the file names a class or function beyond modules and plain data.
      ValueError: not such an archive, or damaged.
    """
    module = load_archive(path, _Objects, more_names=(_MODULE, _TYPED_LIST))
    if not isinstance(module, _Module):
        raise ValueError(f"{path} holds a {type(module).__name__}, expected a TorchScript module")
    return dict(_tensors(module, ""))


class _Module(dict[str, Any]):
    """The attributes of any module of an archive."""


class _Objects(TorchObjects):
    def _made(self, record: Record, depth: int) -> Any:
        if record.name.startswith(_MODULE):  # a class of the archive's own source
            return _Module(self.plain(record.state or {}, depth + 1))
        if record.name.startswith(_TYPED_LIST):  # a typed list or dict: the value, then its type
            return self.plain(record.args[0], depth + 1)
        return super()._made(record, depth)


def _tensors(module: _Module, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    for name, value in module.items():
        if isinstance(value, np.ndarray):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")
