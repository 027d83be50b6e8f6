"""Checkpoint errors: a class for each kind that a caller may want to handle."""

import os
import re
import shutil
from pathlib import Path


class CheckpointMismatch(ValueError):
    """The checkpoint is intact but belongs to another tree: other keys, shapes or dtypes."""


class CheckpointCorrupt(RuntimeError):
    """The bytes on disk are not those that were saved."""


class CheckpointWriteError(OSError):
    """A checkpoint could not be written; those saved before are untouched."""


def write_error(step: int, directory: Path, cause: Exception) -> CheckpointWriteError:
    """The error that says why the checkpoint of `step` was not written, and what to do."""
    code = cause.errno if isinstance(cause, OSError) else None
    if match := re.search(r"os_error_code='(\d+)'", str(cause)):  # how TensorStore reports errno
        code = int(match[1])
    reason = os.strerror(code) if code else f"{type(cause).__name__}: {str(cause)[:300]}"
    try:
        room = f"{shutil.disk_usage(directory).free / 1e6:.1f} MB are free"
    except OSError:
        room = "there is no such folder"
    error = CheckpointWriteError(
        f"could not save the checkpoint of step {step} in {directory}: {reason} ({room}). The "
        "checkpoints saved before are intact. Free some space, or choose a writable folder, "
        "and run the same command again"
    )
    error.errno = code
    return error
