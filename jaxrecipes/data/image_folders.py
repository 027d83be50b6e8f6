"""Image files in a folder, and their classes according to the names of folders."""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxrecipes.errors import listed

_log = logging.getLogger("jaxrecipes")

_PHOTOS = {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".avif"}
IMAGE_SUFFIXES = frozenset(_PHOTOS | {".pgm", ".ppm", ".pnm", ".jp2"})
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_ARCHIVE_RESTS = "__MACOSX"


def find_images(folder: Path) -> list[Path]:
    """All image files below, sorted.

    Links to files and folders are followed, but no folder twice along a path, so that a link to a
    parent folder does no harm. Names that begin with a dot (`._1.png`, `.ipynb_checkpoints`) and
    `__MACOSX` are ignored, because they hold copies. A warning counts and names entries with the
    suffix of an image that are not files, and what `nameable` leaves out.

    Raises:
      OSError: the folder, or one below, cannot be read.
    """
    found = sorted(_walk(folder, frozenset()))
    files = [path for path in found if path.is_file()]
    if broken := [printable(path) for path in found if not path.is_file()]:
        _log.warning("left out %d images that are not files: %s", len(broken), listed(broken, 5))
    return nameable(files)


def nameable(paths: Sequence[Path]) -> list[Path]:
    """The paths whose names are UTF-8, as tables require; a warning counts and names the others."""
    found = [path for path in paths if _is_text(path)]
    if strange := [printable(path) for path in paths if not _is_text(path)]:
        _log.warning(
            "left out %d files whose names are not UTF-8: %s; rename them",
            *(len(strange), listed(strange, 5)),
        )
    return found


def printable(path: str | Path) -> str:
    """The path as a string, with bytes that are not UTF-8 escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def class_word(name: str) -> str | None:
    """The class that occurs as a whole word in the name, open or closed; None for both or neither.

    Words end at anything but letters, and before a capital letter: `eyesOpen`, `left-closed_2`.
    """
    words = {word.lower() for word in _WORDS.findall(name)} & {"open", "closed"}
    return words.pop() if len(words) == 1 else None


def class_of(path: Path, folder: Path) -> str | None:
    """The `class_word` of the nearest folder, up to `folder`, whose name has one, otherwise that of
    the file's own name; None if there is none.
    """
    parents = [Path(os.path.abspath(folder)).name, *path.relative_to(folder).parts[:-1]]
    return next(filter(None, map(class_word, (*reversed(parents), path.stem))), None)


def _walk(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    """Paths with the suffix of an image, without entering any folder of `above` (resolved)
    again.
    """
    here = os.path.realpath(folder)
    if here in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith(".") or entry.name == _ARCHIVE_RESTS:
                continue
            if entry.is_dir():
                yield from _walk(path, above | {here})
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                yield path


def _is_text(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
