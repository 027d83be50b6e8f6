"""Temporary files that name their owner and are removed once it has died.

Their owner holds a lock on them, which the operating system releases with the process, however it
ends. So nobody needs to guess from a name or an age whether a file is still being written.
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
    """A temporary file beside `path`, which takes its place when the block ends well.

    Those beside it that a dead process left are removed. Whatever wrote the block must have been
    closed in it.

    Raises:
      OSError: the folder cannot be written, or the disk is full.
    """
    sweep(path.parent)
    temporary, handle = _create(path)
    try:
        if os.name == "nt":  # an open file cannot be renamed there
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
        return  # what is open cannot be told from what is not
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
        # Another process took it for a dead one's in the moment before it was locked.
        os.close(handle)
        temporary.unlink(missing_ok=True)


def _lock(handle: int) -> bool:
    try:
        return lock_descriptor(handle, blocking=False)
    except OSError:
        return True  # a file system without locks: then nobody can lock it to remove it either


def _remove_if_dead(path: str) -> None:
    handle = os.open(path, os.O_RDWR)
    try:
        if lock_descriptor(handle, blocking=False):
            os.unlink(path)
    finally:
        os.close(handle)
