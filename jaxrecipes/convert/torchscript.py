"""Reads the tensors of a TorchScript archive (`torch.jit.save`) without PyTorch and without code.

Such an archive has the form of `torch.save`'s, with the program's source beside the pickled module.
The source is left alone: of each module, whatever its class, only the attributes are taken.
"""

import os
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxrecipes.convert.reader import ArchiveUnpickler, load_archive


def is_torchscript(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a TorchScript archive; false for other files and for none."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def load_torchscript(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The parameters and buffers of the module in an archive, by the keys of its state dict.

    Raises:
      FileNotFoundError: no such file.
      UnsafeCheckpointError: the file names a class or function beyond modules and plain data.
      ValueError: not such an archive, or damaged.
    """
    module = load_archive(path, _Unpickler)
    if not isinstance(module, _Module):
        raise ValueError(f"{path} holds a {type(module).__name__}, want a TorchScript module")
    return dict(_tensors(module, ""))


class _Module:
    """Any module of an archive; its attributes are what unpickling stores in it."""


class _Unpickler(ArchiveUnpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":  # a class of the archive's own source
            return type("_Module", (_Module,), {})
        if module == "torch.jit._pickle" and name.startswith("build_"):  # a typed list
            return lambda items: items
        return super().find_class(module, name)


def _tensors(module: _Module, prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    for name, value in vars(module).items():
        if isinstance(value, np.ndarray):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")
