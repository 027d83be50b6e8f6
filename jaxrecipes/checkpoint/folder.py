"""One checkpoint on disk: its name, its manifest, and the proof that its bytes are those saved.

A checkpoint is a folder named by its step. It is prepared under a hidden name and gets its own name
by one rename as the last act, so whatever bears a step as its name was complete once. The manifest
lists the size and CRC-32 of every other file and carries a CRC-32 of itself: a flipped bit, a
truncated, lost or exchanged file is found before a single array is read. (Orbax, which writes the
arrays, verifies none of it: a flipped bit loads as a wrong number.)
"""

import json
import os
import re
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxrecipes.checkpoint.errors import CheckpointCorrupt

MANIFEST = "manifest.json"
_FORMAT = 1
_STEP_NAME = re.compile(r"(0|[1-9]\d*)(?:\.(\d+))?", re.ASCII)
_SAVING, _DELETING = ".saving-", ".deleting-"


def versions(directory: Path) -> list[tuple[int, int, Path]]:
    """Every finished checkpoint as (step, generation, path), ascending.

    A step that is saved again gets the name `STEP.1`, then `STEP.2` ..., of which the highest
    counts: so replacing is one atomic rename too.
    """
    found = []
    for path in _entries(directory):
        match = _STEP_NAME.fullmatch(path.name)
        if match and path.is_dir():
            found.append((int(match[1]), int(match[2] or 0), path))
    return sorted(found)


def committed(directory: Path) -> dict[int, Path]:
    """The checkpoint that counts for each step, by ascending step."""
    return {step: path for step, _, path in versions(directory)}


def name_for(directory: Path, step: int) -> Path:
    """The name under which `step` is to be committed: one that is free and that will count."""
    generations = [generation for at, generation, _ in versions(directory) if at == step]
    return directory / (f"{step}.{generations[-1] + 1}" if generations else str(step))


def preparing(directory: Path, step: int) -> Path:
    """Where the checkpoint of `step` is built before it is committed."""
    return directory / f"{_SAVING}{step}"


def seal(folder: Path, content: Mapping[str, Any]) -> None:
    """Writes the manifest over all files now in `folder`, and flushes everything to the disk."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        files[path.relative_to(folder).as_posix()] = [path.stat().st_size, _crc32(path, flush=True)]
    body = {"format": _FORMAT, "files": files, **content}
    with open(folder / MANIFEST, "w", encoding="utf-8") as file:
        json.dump({"crc32": zlib.crc32(_canonical(body)), "body": body}, file)
        file.flush()
        os.fsync(file.fileno())


def commit(folder: Path, final: Path) -> None:
    """Gives a sealed folder its final name, atomically."""
    folder.rename(final)
    parent = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest's content, checked against its own checksum.

    Raises:
      CheckpointCorrupt: it is missing, unreadable or altered, or of a format not known here.
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
    if body["format"] != _FORMAT:
        raise CheckpointCorrupt(f"{MANIFEST} has format {body['format']}, this version reads 1")
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
    """Deletes a checkpoint; it loses its name first, so nobody meets it half deleted."""
    hidden = folder.with_name(_DELETING + folder.name)
    folder.rename(hidden)
    shutil.rmtree(hidden)


def set_aside(folder: Path) -> Path:
    """Renames a damaged checkpoint to `STEP.corrupt`, out of the way of everything here."""
    target, number = folder.with_name(f"{folder.name}.corrupt"), 1
    while target.exists():
        number += 1
        target = folder.with_name(f"{folder.name}.corrupt-{number}")
    return folder.rename(target)


def sweep(directory: Path) -> None:
    """Deletes what a killed process left half written or half deleted."""
    for path in _entries(directory):
        if path.name.startswith((_SAVING, _DELETING)):
            shutil.rmtree(path)


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
