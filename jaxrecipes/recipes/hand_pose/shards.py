"""Clips of hands from tar shards: labels in memory, images decoded in advance or when needed."""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from jaxrecipes.data.decode import cache_folder
from jaxrecipes.data.encoded_images import EncodedImages
from jaxrecipes.data.fingerprint import Identity
from jaxrecipes.data.image_cache import ImageCache
from jaxrecipes.data.indexed_rows import Arrays, IndexedRows
from jaxrecipes.data.tar_shards import find_shards
from jaxrecipes.data.tar_writer import ShardWriter
from jaxrecipes.errors import unknown_name
from jaxrecipes.recipes.hand_pose.frames import (
    BrokenSample,
    HandFrames,
    read_hand_frames,
    report_broken,
    shards_digest,
)
from jaxrecipes.recipes.hand_pose.schema import HandSequence, pack_sequence

_log = logging.getLogger("jaxrecipes")

Decode = Literal["cache", "lazy"]
"""cache: all images decoded once, raw pixels memory-mapped. lazy: decoded for each batch."""


@dataclasses.dataclass(frozen=True)
class HandClips:
    """N clips of T frames of one hand each.

    Attributes:
      arrays: `image` uint8 `[N, T, H, W, 3]`, in the top left of a canvas, 0 elsewhere, as
        `IndexedRows`; `image_size` int32 `[N, 2]`, height and width of the image itself; `left`
        float32 `[N]`, 1 = a left hand; and the labels of `schema.LABELS`, float32
        `[N, T, ...]`, for T > 1 as `IndexedRows` too, since clips overlap.
      keys: `[N]` str, the sequence's key, `_`, and the number of the clip in it.
      sources: `[N]` str, the data set that a clip comes from; None: not known.
      shards: int32 `[N]`, the tar.
      broken: samples of the shards that were left out.
    """

    arrays: Arrays
    keys: np.ndarray
    sources: np.ndarray | None
    shards: np.ndarray
    broken: tuple[BrokenSample, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def identity(self) -> Identity:
        """Keys, sources, shards and labels."""
        labels = {name: self.arrays[name] for name in self.arrays if name != "image"}
        sources = {} if self.sources is None else {"source": self.sources}
        return {"name": self.keys, **sources, "shard": self.shards, **labels}

    @property
    def left_out(self) -> int:
        """Samples that cannot be used."""
        return len(self.broken)

    @property
    def sequences(self) -> np.ndarray:
        """int32 `[N]`: the sequence of each clip, numbered in the order of the clips."""
        names = [key.rpartition("_")[0] for key in self.keys.tolist()]
        pairs = list(zip(self.shards.tolist(), names, strict=True))
        numbers = {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}
        return np.array([numbers[pair] for pair in pairs], np.int32)

    def take(self, rows: np.ndarray) -> "HandClips":
        """The clips of `rows`, in that order."""

        def taken(array: Any) -> Any:
            if isinstance(array, IndexedRows):
                return IndexedRows(array.table, array.rows[rows])
            return array[rows]

        return dataclasses.replace(
            self,
            arrays={name: taken(array) for name, array in self.arrays.items()},
            keys=self.keys[rows],
            sources=None if self.sources is None else self.sources[rows],
            shards=self.shards[rows],
        )


def read_hand_clips(
    sources: str | Path | Sequence[str | Path],
    *,
    num_frames: int = 1,
    stride: int = 1,
    decode: Decode = "cache",
    exif_orientation: bool = True,
    cache_dir: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> HandClips:
    """All clips of the shards, in the order of the shards.

    A sequence of F frames has the clips that start at frame 0, `stride`, 2 `stride` ... and end
    within it. Broken samples, and clips whose images have different sizes, are logged and left out.

    Args:
      sources: tars, folders or patterns, see `find_shards`.
      num_frames: T, 1 or more; shorter sequences are left out.
      stride: frames between the starts of two clips, 1 or more.
      decode: "cache" needs disk space for the decoded images; "lazy" decodes every image once to
        check it, and then again for each batch.
      exif_orientation: rotate images by their EXIF orientation; labels are in pixels of the rotated
        image.
      cache_dir: None: `decode.default_cache_dir()`.
      progress: called with (samples done, samples in total) while labels are read, then with
        (images done, images in total) while images are decoded; not if they are cached.

    Raises:
      FileNotFoundError: a source without tars.
      ValueError: numbers below 1, no sample that can be used, or no sequence of `num_frames`.
    """
    if num_frames < 1 or stride < 1:
        raise ValueError(f"num_frames {num_frames} and stride {stride}: both must be 1 or more")
    if decode not in get_args(Decode):
        raise unknown_name("decode", decode, get_args(Decode))
    folder = cache_folder(cache_dir)
    frames = read_hand_frames(
        find_shards(sources),
        verify_images=decode == "lazy",
        exif_orientation=exif_orientation,
        cache_dir=folder,
        progress=progress,
    )
    table, row_of_frame, broken = _images(frames, decode, folder, exif_orientation, progress)
    rows, sequence, number = _windows(frames, row_of_frame >= 0, num_frames, stride)
    keys = zip(frames.keys[sequence].tolist(), number.tolist(), strict=True)
    arrays: dict[str, np.ndarray | IndexedRows] = {
        "image": IndexedRows(table, row_of_frame[rows]),
        "image_size": frames.image_size[rows[:, 0]],
        "left": frames.left[sequence],
    }
    for name, label in frames.labels.items():
        arrays[name] = label[rows] if num_frames == 1 else IndexedRows(label, rows)
    return HandClips(
        arrays=arrays,
        keys=np.array([f"{key}_{i:04d}" for key, i in keys]),
        sources=frames.sources[sequence],
        shards=frames.shards[sequence],
        broken=frames.broken + broken,
    )


def write_hand_shards(
    sequences: Iterable[HandSequence],
    folder: str | Path,
    *,
    pattern: str = "hands-{:06d}.tar",
    max_samples: int = 1000,
) -> list[Path]:
    """Packs sequences into tars that `read_hand_clips` reads. Images are kept byte for byte.

    Raises:
      ValueError: a sequence is incomplete, see `pack_sequence`.
      OSError: the folder cannot be written.
    """
    with ShardWriter(folder, pattern, max_samples=max_samples) as shards:
        for sequence in sequences:
            shards.write(sequence.key, pack_sequence(sequence))
    return shards.files


def _windows(
    frames: HandFrames, readable: np.ndarray, num_frames: int, stride: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the clips: frames `[N, T]` int32, sequence `[N]`, and number in the sequence `[N]`."""
    complete = np.logical_and.reduceat(readable, frames.starts[:-1])
    counts = np.maximum((frames.lengths - num_frames) // stride + 1, 0) * complete
    if not counts.any():
        raise ValueError(
            f"no sequence has {num_frames} frames; the longest of {len(counts)} has "
            f"{frames.lengths.max()}"
        )
    sequence = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(sequence)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = (frames.starts[sequence] + number * stride)[:, None] + np.arange(num_frames)
    sizes = frames.image_size[rows]
    alike = (sizes == sizes[:, :1]).all(axis=(1, 2))
    if not alike.any():
        raise ValueError(f"none of the {len(alike)} clips has {num_frames} images of one size")
    if not alike.all():
        _log.warning(
            "%d of %d clips have images of different sizes and are left out",
            *((~alike).sum(), len(alike)),
        )
    return rows[alike].astype(np.int32), sequence[alike], number[alike]


def _images(
    frames: HandFrames,
    decode: Decode,
    folder: Path,
    exif_orientation: bool,
    progress: Callable[[int, int], None] | None,
) -> tuple[Any, np.ndarray, tuple[BrokenSample, ...]]:
    """The table of images, the row there of every frame (-1: none), and what cannot be decoded."""
    height, width = frames.image_size.max(axis=0).tolist()
    shard_of_frame = np.repeat(frames.shards, frames.lengths)
    images = EncodedImages(
        frames.files,
        shard_of_frame,
        frames.places,
        (height, width),
        exif_orientation=exif_orientation,
    )
    if decode == "lazy":
        return images, np.arange(len(images), dtype=np.int32), ()
    key = shards_digest(frames.files, height, width, exif_orientation)
    cache = ImageCache(folder, key, (height, width))
    entry, _ = cache.read_or_write(len(images), lambda: images.decode_all(progress))
    readable = np.ones(len(images), bool)
    readable[[row for row, _ in entry.unreadable]] = False
    row_of_frame = np.where(readable, np.cumsum(readable) - 1, -1).astype(np.int32)
    reasons: dict[int, str] = {}
    for row, reason in entry.unreadable:
        sequence = int(np.searchsorted(frames.starts, row, side="right")) - 1
        reasons.setdefault(sequence, reason)
    broken = tuple(
        BrokenSample(str(frames.files[frames.shards[s]]), str(frames.keys[s]), reason)
        for s, reason in reasons.items()
    )
    report_broken(broken, len(frames.keys) - len(broken))
    return entry.images, row_of_frame, broken
