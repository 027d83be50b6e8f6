"""Locks that the operating system releases when their process ends, however it ends."""

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator


class FileLock:
    """An exclusive lock on a file, between the processes that see it (over NFS too)."""

    def __init__(self, path: pathlib.Path):
        self._path, self._file = path, -1

    def acquire(self, *, wait: bool) -> bool:
        """Takes the lock; without `wait` it gives up (False) when another process holds it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(file)
            return False
        self._file = file
        return True

    def release(self) -> None:
        """Lets go of the lock."""
        os.close(self._file)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Waits for the lock and holds it."""
        self.acquire(wait=True)
        try:
            yield
        finally:
            self.release()
