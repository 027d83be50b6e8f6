"""Temporary files that name their owner and are removed once it has died.

Their owner holds a lock on them, which the operating system releases when the process ends, for
whatever reason. So nobody has to guess from a name or an age whether a file is still being written.
"""

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import lock_descriptor

_SUFFIX = ".partial"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file next to `path`, which replaces it if the block ends without an error.

    Temporary files that dead processes left beside it are removed. Whatever the block opens for
    writing must be closed within it.

    Raises:
      OSError: the folder cannot be written, or the disk is full.
    """
    sweep(path.parent)
    temporary, handle = _create(path)
    try:
        if os.name == "nt":  # which cannot rename an open file
            os.close(handle)
        yield temporary
        os.replace(temporary, path)
    finally:
        if os.name != "nt":
            os.close(handle)
        temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Removes the temporary files of a folder whose owners have died."""
    if os.name == "nt":
        return  # where an open file cannot be told from a closed one
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and entry.name.endswith(_SUFFIX):
                with contextlib.suppress(OSError):
                    _remove_if_dead(entry.path)


def _create(path: Path) -> tuple[Path, int]:
    owner = f"{socket.gethostname()[:40]}-{os.getpid()}"
    while True:
        name = f".{path.name[:40]}.{owner}-{secrets.token_hex(4)}{_SUFFIX}"
        temporary = path.with_name(name)
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        if os.name == "nt" or (_lock(handle) and os.fstat(handle).st_nlink):
            return temporary, handle
        # In the moment before it was locked, another process took its owner for dead.
        os.close(handle)
        temporary.unlink(missing_ok=True)


def _lock(handle: int) -> bool:
    try:
        return lock_descriptor(handle, blocking=False)
    except OSError:
        return (
            True  # a file system without locks, where nobody can lock the file to remove it either
        )


def _remove_if_dead(path: str) -> None:
    handle = os.open(path, os.O_RDWR)
    try:
        if lock_descriptor(handle, blocking=False):
            os.unlink(path)
    finally:
        os.close(handle)
