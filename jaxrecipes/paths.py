"""Paths as users write them, and checks of output paths before any work is done."""

import os
import pathlib
import stat
from collections.abc import Iterable


def user_path(path: str | os.PathLike[str]) -> pathlib.Path:
    """The path with `~` and `~NAME` expanded, wherever it was written.

    A shell expands them only at the start of a word, so neither in `--data.cache_dir=~/x` nor in a
    file.

    Raises:
      ValueError: an empty path, one with a null byte, or a home folder that cannot be found.
    """
    text = os.fspath(path)
    if not text:
        raise ValueError("an empty path; leave it out, or name a file or folder")
    if "\0" in text:
        raise ValueError(f"the path {text!r} has a null byte in it")
    try:
        return pathlib.Path(text).expanduser()
    except RuntimeError:
        home = text.split("/")[0]
        raise ValueError(f"the path {text!r}: there is no home folder for {home!r}") from None


def check_output_file(
    path: pathlib.Path, *, what: str = "--output", inputs: Iterable[pathlib.Path] = ()
) -> None:
    """Raises a ValueError if a file cannot or should not be written.

    Args:
      path: the file to write; its folder need not exist yet.
      what: the flag that names it.
      inputs: files that are read and must not be overwritten.
    """
    if path.is_dir():
        raise ValueError(f"{what} {path}: it is a folder; expected the name of a file to write")
    _check_regular(path, what)
    for other in inputs:
        if path.exists() and other.exists() and path.samefile(other):
            raise ValueError(f"{what} {path}: it is also read; give another name")
    _check_parent(path.parent, path, what)


def check_output_folder(path: pathlib.Path, *, what: str = "--workdir") -> None:
    """Raises a ValueError if a folder, which need not exist yet, cannot be written to."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"{what} {path}: it is a file; expected a folder")
    _check_parent(path, path, what)


def _check_regular(path: pathlib.Path, what: str) -> None:
    # /dev/stdout may point to a regular file, but must not itself be replaced.
    device = path.absolute().parts[1:2] == ("dev",) and path.absolute().parts[2:3] != ("shm",)
    try:
        device = device or not stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        device = False
    if device:
        raise ValueError(f"{what} {path}: it is a device or pipe; expected the name of a file")


def _check_parent(folder: pathlib.Path, path: pathlib.Path, what: str) -> None:
    """Checks the nearest parent folder that exists."""
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise ValueError(f"{what} {path}: {folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"{what} {path}: the folder {folder} cannot be written")
