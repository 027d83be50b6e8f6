"""Decoded images on disk: raw pixels, memory-mapped, with a checksum."""

import dataclasses
import json
import os
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from jaxrecipes.locks import in_turn
from jaxrecipes.temporary import replacing, sweep

DecodedChunk = tuple[np.ndarray, list[tuple[int, str]]]
"""`[n, H, W, 3]` uint8 images, and (row, reason) for each that could not be read."""


@dataclasses.dataclass(frozen=True)
class CacheEntry:
    """The content of a cache entry.

    Attributes:
      images: `[M, H, W, 3]` uint8, read-only.
      unreadable: (row, reason) of the rows without an image.
    """

    images: np.ndarray
    unreadable: list[tuple[int, str]]


class ImageCache:
    """A cache entry: pixels in `KEY.pixels`; `KEY.json`, written last, has a checksum and lists
    unreadable images.
    """

    def __init__(self, folder: Path, key: str, image_size: tuple[int, int]):
        self._pixels = folder / f"{key}.pixels"
        self._description = folder / f"{key}.json"
        self._image_size = image_size

    def read(self, num_rows: int) -> CacheEntry | None:
        """The entry for `num_rows` rows; None if there is none or it is damaged."""
        try:
            description = json.loads(self._description.read_text(encoding="utf-8"))
            unreadable = [(int(row), str(reason)) for row, reason in description["unreadable"]]
            checksum = int(description["crc32"])
            entry = self._map(num_rows - len(unreadable), unreadable)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        found = 0
        for start in range(0, len(entry.images), 4096):
            found = _checksum(entry.images[start : start + 4096], found)
        return entry if _add_list(unreadable, found) == checksum else None

    def read_or_write(
        self, num_rows: int, make: Callable[[], Iterable[DecodedChunk]]
    ) -> tuple[CacheEntry, bool]:
        """The entry for `num_rows` rows, and whether it existed already. If not, `make` provides
        its chunks, in one process only; the others wait for it.

        Raises:
          OSError: the folder cannot be written, or the disk is full.
        """
        sweep(self._pixels.parent)
        if (entry := self.read(num_rows)) is not None:
            return entry, True
        with in_turn(self._pixels):
            if (entry := self.read(num_rows)) is not None:
                return entry, True
            return self.write(make()), False

    def write(self, chunks: Iterable[DecodedChunk]) -> CacheEntry:
        """Stores the chunks; a half-written entry never has the final name.

        Raises:
          OSError: the folder cannot be written, or the disk is full.
        """
        self._pixels.parent.mkdir(parents=True, exist_ok=True)
        checksum = count = 0
        unreadable: list[tuple[int, str]] = []
        with replacing(self._pixels) as temporary, temporary.open("wb") as stream:
            for images, failed in chunks:
                stream.write(images.data if images.size else b"")
                checksum = _checksum(images, checksum)
                count += len(images)
                unreadable.extend(failed)
            stream.flush()
            os.fsync(stream.fileno())
        description = {"crc32": _add_list(unreadable, checksum), "unreadable": unreadable}
        with replacing(self._description) as temporary:
            temporary.write_text(json.dumps(description), encoding="utf-8")
        return self._map(count, unreadable)

    def _map(self, count: int, unreadable: list[tuple[int, str]]) -> CacheEntry:
        shape = (count, *self._image_size, 3)
        size = self._pixels.stat().st_size
        if count < 0 or size != np.prod(shape, dtype=np.int64):
            raise ValueError(f"{self._pixels} has {size} bytes, expected the pixels of {shape}")
        if not count:
            return CacheEntry(np.empty(shape, np.uint8), unreadable)
        return CacheEntry(np.memmap(self._pixels, np.uint8, "r", shape=shape), unreadable)


def _checksum(images: np.ndarray, start: int) -> int:
    return zlib.crc32(images.data, start) if images.size else start


def _add_list(unreadable: list[tuple[int, str]], start: int) -> int:
    return zlib.crc32(json.dumps(unreadable).encode(), start)
