"""Files that are written completely or not at all, and new folders."""

import datetime
import os
import pathlib

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
