"""Files that are written completely or not at all, and new folders."""

import datetime
import json
import math
import os
import pathlib
from typing import Any

from jaxrecipes.errors import cause
from jaxrecipes.paths import check_output_file
from jaxrecipes.temporary import replacing


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file next to `path` and renames it, so that no reader ever sees half of it.

    The folder is created if needed.

    Raises:
      ValueError: the path is a folder, a device or a pipe, which a rename would replace.
      OSError: it cannot be written.
    """
    path = pathlib.Path(path)
    check_output_file(path, what="cannot write")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def is_git_lfs_pointer(head: bytes) -> bool:
    """Whether these first bytes are those of a Git LFS pointer, which stands for a file that was
    not fetched.
    """
    return head.startswith(b"version https://git-lfs.github.com/spec/")


def check_content(path: str | os.PathLike[str]) -> None:
    """Raises a ValueError for a file without the real content: an empty one, a Git LFS pointer, or
    a web page such as a server's "not found".

    Raises:
      OSError: the file cannot be read.
    """
    with open(path, "rb") as stream:
        head = stream.read(64)
    if not head:
        raise ValueError(f"{path} is an empty file; copy or download it again")
    if is_git_lfs_pointer(head):
        raise ValueError(f"{path} is a Git LFS pointer, not the file itself; run git lfs pull")
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise ValueError(f"{path} is a web page, not the file itself; download it again")


def new_folder(parent: pathlib.Path, name: str) -> pathlib.Path:
    """Makes a folder `NAME-DATE-TIME`, with a number appended if another process has just made that
    one.
    """
    parent.mkdir(parents=True, exist_ok=True)
    dated = parent / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    folder, number = dated, 1
    while True:
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1
            folder = dated.with_name(f"{dated.name}.{number}")


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes strict JSON: NaN and infinities become null."""
    write_bytes(path, (json.dumps(_strict(value), indent=2) + "\n").encode())


def read_json(path: pathlib.Path) -> Any:
    """Reads a JSON file.

    Raises:
      ValueError: the file is not JSON, or nested too deeply.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not valid JSON ({cause(error)}); restore it or start in a new folder"
        ) from error


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _strict(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
