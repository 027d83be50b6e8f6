"""One process at a time: in a run's folder, at an entry of a cache.

The operating system releases these locks when their process ends, however it ends.
"""

import contextlib
import datetime
import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
from filelock import FileLock, Timeout

from jaxrecipes.files import write_bytes

_log = logging.getLogger("jaxrecipes")


class InUseError(ValueError):
    """Another process is at work in this folder."""


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Holds a folder, which is made if need be, for this process; it may hold it several times.

    Raises:
      InUseError: another process holds it; says which and since when.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(folder / ".in_use", is_singleton=True), folder / ".in_use.json"
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise InUseError(
            f"{folder} is in use{_described(holder)}: wait until that has ended, stop it, or "
            "choose another folder"
        ) from None
    outermost = lock.lock_counter == 1
    try:
        if outermost:
            write_bytes(holder, json.dumps(_myself()).encode())
        yield
    finally:
        if outermost:
            holder.unlink(missing_ok=True)
        lock.release()


def alone_in_run(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Holds a run's folder for this process, or for all that train together: see `alone_in`."""
    return alone_in(folder) if jax.process_index() == 0 else contextlib.nullcontext()


@contextlib.contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Waits, with a line in the log, until no other process holds the lock `path`, and holds it.

    The file is a temporary one (see `jaxrecipes.temporary`): it goes when nobody holds it.
    """
    lock = FileLock(path.with_name(f".{path.name}.partial"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        _log.info("waiting for another process that makes %s", path)
        lock.acquire()
    try:
        yield
    finally:
        # A process that waits will find the result ready and needs no lock for it.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _myself() -> dict[str, str | int]:
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": datetime.datetime.now().astimezone().isoformat(" ", "seconds"),
        "command": " ".join(sys.argv)[:80],
    }


def _described(holder: Path) -> str:
    try:
        found = json.loads(holder.read_text())
        return " by process {process} on {host} since {since} ({command})".format(**found)
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # it has only just begun, or is about to end
