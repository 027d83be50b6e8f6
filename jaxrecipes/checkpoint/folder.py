"""A checkpoint on disk: its name, its manifest, and the verification of its bytes.

A checkpoint is a folder named by its step. It is prepared under a hidden name and renamed at the
very end, so any folder named by a step was once complete. The manifest lists the size and CRC-32 of
every other file and carries a CRC-32 of itself: a flipped bit or a truncated, missing or swapped
file is found before any array is read. (Orbax, which writes the arrays, verifies none of this: a
flipped bit loads as a wrong number.)

Hidden names end in the host and the process that they belong to: `.deleting-STEP-HOST-PID`, and
`.saving-STEP-HOST-PID.N` of its save number N.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxrecipes.checkpoint import version_0_1
from jaxrecipes.checkpoint.leaves import CheckpointCorrupt

MANIFEST = "manifest.json"
FORMAT = 2
_STEP_NAME = re.compile(r"0|[1-9]\d*", re.ASCII)
_SAVING, _REPLACED, _DELETING = "saving", "replaced", "deleting"
_HIDDEN = re.compile(
    rf"\.({_SAVING}|{_REPLACED}|{_DELETING})-([0-9.]+)(?:-(.+)-(\d+)(?:\.\d+)?)?", re.ASCII
)
_UNTOUCHED_S = 24 * 3600.0


def versions(directory: Path) -> list[tuple[int, int, Path]]:
    """Every finished checkpoint as (step, generation, path), ascending; the highest generation
    counts.

    A step has one folder, with two exceptions. While it is being replaced, the old folder has a
    hidden name, and counts as long as there is no other. And version 0.1 wrote `STEP.1`, see
    `version_0_1`.
    """
    found = []
    for path in _entries(directory):
        hidden = _HIDDEN.fullmatch(path.name)
        if _STEP_NAME.fullmatch(path.name):
            version = int(path.name), 0
        elif again := version_0_1.saved_again(path.name):
            version = again
        elif hidden and hidden[1] == _REPLACED:
            version = int(hidden[2]), -1
        else:
            continue
        if path.is_dir():
            found.append((*version, path))
    return sorted(found)


def committed(directory: Path) -> dict[int, Path]:
    """The valid checkpoint of each step, by ascending step."""
    return {step: path for step, _, path in versions(directory)}


def owner() -> str:
    """The name of this process, with which hidden names end."""
    return f"{socket.gethostname() or 'host'}-{os.getpid()}"


def preparing(directory: Path, step: int, save: str) -> Path:
    """The folder in which `STEP` is prepared until it is committed.

    `save` is `owner()`, a dot and a number that no other save of this process has, because a failed
    save may still be writing to its folder.
    """
    return _hidden(directory / str(step), _SAVING, save)


def seal(folder: Path, content: Mapping[str, Any]) -> None:
    """Writes the manifest of all files in `folder`, and flushes everything to disk."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        files[path.relative_to(folder).as_posix()] = [path.stat().st_size, _crc32(path, flush=True)]
    body = {"format": FORMAT, "files": files, **content}
    with open(folder / MANIFEST, "w", encoding="utf-8") as file:
        json.dump({"crc32": zlib.crc32(_canonical(body)), "body": body}, file)
        file.flush()
        os.fsync(file.fileno())


def commit(folder: Path, final: Path) -> None:
    """Gives a sealed folder its final name; the previous folder of that name remains valid until
    then.
    """
    replaced = _hidden(final, _REPLACED, owner())
    if final.exists():
        if replaced.exists():
            shutil.rmtree(replaced)
        final.rename(replaced)
    try:
        folder.rename(final)
    except OSError:
        if replaced.exists():
            replaced.rename(final)
        raise
    parent = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest's content, checked against its own checksum.

    Raises:
      CheckpointCorrupt: it is missing, unreadable or altered, or has an unknown format.
    """
    try:
        document = json.loads((folder / MANIFEST).read_bytes())
        body, crc32 = document["body"], document["crc32"]
    except FileNotFoundError:
        raise CheckpointCorrupt(f"{MANIFEST} is missing") from None
    except OSError as error:
        raise CheckpointCorrupt(f"{MANIFEST} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, RecursionError):
        raise CheckpointCorrupt(f"{MANIFEST} is damaged: it cannot be read") from None
    if not isinstance(body, dict) or zlib.crc32(_canonical(body)) != crc32:
        raise CheckpointCorrupt(f"{MANIFEST} is damaged: its checksum is wrong")
    if body["format"] not in (version_0_1.FORMAT, FORMAT):
        raise CheckpointCorrupt(
            f"{MANIFEST} has format {body['format']}, this version reads {version_0_1.FORMAT} and "
            f"{FORMAT}"
        )
    return body


def verify(folder: Path) -> dict[str, Any]:
    """Reads every byte of the checkpoint and returns its manifest.

    Raises:
      CheckpointCorrupt: naming the first file that is missing, truncated or altered.
    """
    body = read_manifest(folder)
    for name, (size, crc32) in body["files"].items():
        path = folder / name
        if not path.is_file():
            raise CheckpointCorrupt(f"{name} is missing")
        if path.stat().st_size != size:
            raise CheckpointCorrupt(f"{name} has {path.stat().st_size} bytes instead of {size}")
        try:
            intact = _crc32(path) == crc32
        except OSError as error:
            raise CheckpointCorrupt(f"{name} cannot be read: {error.strerror}") from error
        if not intact:
            raise CheckpointCorrupt(f"{name} is altered: its checksum is wrong")
    return body


def remove(folder: Path) -> None:
    """Deletes a checkpoint, after renaming it, so that no reader finds it half deleted."""
    if not _HIDDEN.fullmatch(folder.name):
        folder = folder.rename(_hidden(folder, _DELETING, owner()))
    shutil.rmtree(folder)


def set_aside(folder: Path) -> Path:
    """Renames a damaged checkpoint to `STEP.corrupt`, which everything here ignores."""
    target, number = folder.with_name(f"{folder.name}.corrupt"), 1
    while target.exists():
        number += 1
        target = folder.with_name(f"{folder.name}.corrupt-{number}")
    return folder.rename(target)


def sweep(directory: Path) -> None:
    """Completes or removes what killed processes left behind; the work of living ones is not
    touched.
    """
    for path in _entries(directory):
        hidden = _HIDDEN.fullmatch(path.name)
        if hidden and _is_abandoned(path, hidden[3], hidden[4]):
            name = directory / hidden[2]
            if hidden[1] == _REPLACED and not name.exists():
                path.rename(name)
            else:
                shutil.rmtree(path)
    counting = committed(directory)
    for step, _, path in versions(directory):
        if path != counting[step]:
            remove(path)
    for step, path in counting.items():
        if version_0_1.saved_again(path.name):
            path.rename(directory / str(step))


def _hidden(folder: Path, doing: str, owner: str) -> Path:
    return folder.with_name(f".{doing}-{folder.name}-{owner}")


def _is_abandoned(path: Path, host: str | None, process: str | None) -> bool:
    """Whether, as far as one can tell, no process is still working on it."""
    if host is None or process is None or f"{host}-{process}" == owner():
        return True  # from version 0.1; or from an earlier process with the same number as this one
    if host == socket.gethostname():
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False
    times = [path.stat().st_mtime]
    for inner in path.rglob("*"):
        with contextlib.suppress(OSError):
            times.append(inner.stat().st_mtime)
    return time.time() - max(times) > _UNTOUCHED_S


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _crc32(path: Path, *, flush: bool = False) -> int:
    crc32 = 0
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            crc32 = zlib.crc32(chunk, crc32)
        if flush:
            os.fsync(file.fileno())
    return crc32


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True).encode()
