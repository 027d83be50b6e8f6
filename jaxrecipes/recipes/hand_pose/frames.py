"""All frames of hand shards: labels in memory, and the positions of the images in the tars."""

import dataclasses
import hashlib
import logging
import os
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL

from jaxrecipes.data.image_folders import printable
from jaxrecipes.data.rgb_images import DECODER_VERSION, image_size
from jaxrecipes.data.tar_shards import TarSample, TarShards, scan_shards
from jaxrecipes.recipes.hand_pose.bytes_pickle import list_of_bytes
from jaxrecipes.recipes.hand_pose.label_checks import check_within_reach
from jaxrecipes.recipes.hand_pose.schema import LABELS, HandSequence, parse_sequence
from jaxrecipes.temporary import replacing

_log = logging.getLogger("jaxrecipes")
_FORMAT_VERSION = 4
_SHOWN = 3  # broken samples that are named in a message


@dataclasses.dataclass(frozen=True)
class BrokenSample:
    """A sample that is left out, and why."""

    shard: str
    key: str
    reason: str

    def __str__(self) -> str:
        return f"{self.key} of {self.shard}: {self.reason}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class HandFrames:
    """F frames of S sequences, in the order of the shards.

    Attributes:
      files: the tars.
      labels: float32 `[F, ...]` by the names of `schema.LABELS`.
      places: int64 `[F, 2]`, the offset of each image in its tar, and its size in bytes.
      image_size: int32 `[F, 2]`, height and width.
      starts: int64 `[S + 1]`, first frame of each sequence; F at the end.
      left: float32 `[S]`, 1 = a left hand.
      shards: int32 `[S]`, which of `files`.
      keys: `[S]` str.
      sources: `[S]` str, what the sample says, or the shard's name without its number.
      broken: the samples that were left out, as (shard, key, reason).
    """

    files: tuple[Path, ...]
    labels: dict[str, np.ndarray]
    places: np.ndarray
    image_size: np.ndarray
    starts: np.ndarray
    left: np.ndarray
    shards: np.ndarray
    keys: np.ndarray
    sources: np.ndarray
    broken: tuple[BrokenSample, ...]

    @property
    def lengths(self) -> np.ndarray:
        """int64 `[S]` frames of each sequence."""
        return np.diff(self.starts)


def read_hand_frames(
    files: Sequence[Path],
    *,
    verify_images: bool,
    cache_dir: Path,
    exif_orientation: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> HandFrames:
    """Reads the labels of all samples, or takes them from the cache.

    Args:
      files: the tars, as `find_shards` gives them.
      verify_images: decode every image once to check it; otherwise only the headers are read.
      exif_orientation: whether to give the sizes of images rotated by their EXIF orientation.
      cache_dir: where to keep what was read, under a name made of the shards' paths, sizes and
        times.
      progress: called with (samples done, samples in total).

    Raises:
      ValueError: no sample can be used.
      OSError: a tar cannot be read, or the cache cannot be written.
    """
    cache = cache_dir / f"{shards_digest(files, verify_images, exif_orientation)}.hands.npz"
    frames = _load(cache, tuple(files))
    if frames is None:
        shards = scan_shards(files)
        frames = _read(shards, _Images(verify_images, exif_orientation), progress)
        _save(cache, frames)
    report_broken(frames.broken, len(frames.keys))
    return frames


def report_broken(broken: Sequence[BrokenSample], num_usable: int) -> None:
    """Logs how many samples are left out, and the first of them.

    Raises:
      ValueError: none is left.
    """
    if not broken:
        return
    if not num_usable:
        raise ValueError(f"none of the {len(broken)} samples can be used, the first: {broken[0]}")
    first = "; ".join(map(str, broken[:_SHOWN])) + ("; ..." if len(broken) > _SHOWN else "")
    _log.warning(
        "%d of %d samples are broken and left out: %s",
        *(len(broken), len(broken) + num_usable, first),
    )


def shards_digest(files: Sequence[Path], *settings: object) -> str:
    """A digest of the shards' paths, sizes and modification times, to name their contents."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(
        f"{_FORMAT_VERSION} {DECODER_VERSION} {PIL.__version__.split('.')[0]} {settings}".encode()
    )
    for file in files:
        status = file.stat()
        digest.update(
            b"\n" + os.fsencode(f"{file.absolute()} {status.st_size} {status.st_mtime_ns}")
        )
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class _Images:
    """How images are read."""

    verify: bool
    exif_orientation: bool


@dataclasses.dataclass(frozen=True)
class _Read:
    """A sequence without its images."""

    sequence: HandSequence
    places: np.ndarray
    image_size: np.ndarray


def _read(
    shards: TarShards, how: _Images, progress: Callable[[int, int], None] | None
) -> HandFrames:
    def attempt(sample: TarSample) -> _Read | str:
        try:
            return _read_sample(shards, sample, how)
        except ValueError as error:
            return str(error)

    good: list[tuple[TarSample, _Read]] = []
    names = [printable(file) for file in shards.files]
    broken = [BrokenSample(names[shard], "what follows", text) for shard, text in shards.damaged]
    with ThreadPoolExecutor(thread_name_prefix="hands") as pool:
        results = zip(shards.samples, pool.map(attempt, shards.samples), strict=True)
        for done, (sample, result) in enumerate(results, 1):
            if isinstance(result, str):
                broken.append(BrokenSample(names[sample.shard], sample.key, result))
            else:
                good.append((sample, result))
            if progress is not None:
                progress(done, len(shards.samples))
    if not good:
        report_broken(broken, 0)
        raise ValueError(f"no samples in {', '.join(names[:_SHOWN])}")
    reads = [result for _, result in good]
    sequences = [result.sequence for result in reads]
    lengths = [len(result.places) for result in reads]
    return HandFrames(
        files=shards.files,
        labels={name: np.concatenate([s.labels[name] for s in sequences]) for name in LABELS},
        places=np.concatenate([result.places for result in reads]),
        image_size=np.concatenate([result.image_size for result in reads]),
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        left=np.array([s.left for s in sequences], np.float32),
        shards=np.array([sample.shard for sample, _ in good], np.int32),
        keys=np.array([sample.key for sample, _ in good]),
        sources=np.array(
            [
                s.source or _without_number(shards.files[sample.shard])
                for (sample, _), s in zip(good, sequences, strict=True)
            ]
        ),
        broken=tuple(broken),
    )


def _read_sample(shards: TarShards, sample: TarSample, how: _Images) -> _Read:
    members = shards.read(sample)
    sequence = parse_sequence(sample.key, members)
    sizes = [_size_of(image, frame, how) for frame, image in enumerate(sequence.images)]
    check_within_reach(sequence.labels, np.array(sizes, np.int32))
    first = sample.members["img_bytes.pickle"][0]
    places = [(first + at, size) for at, size in list_of_bytes(members["img_bytes.pickle"])]
    without_images = dataclasses.replace(sequence, images=())
    return _Read(without_images, np.array(places, np.int64), np.array(sizes, np.int32))


def _size_of(encoded: bytes, frame: int, how: _Images) -> tuple[int, int]:
    try:
        return image_size(encoded, Path(), **dataclasses.asdict(how))
    except Exception as error:  # damaged images raise anything
        raise ValueError(f"image {frame} cannot be decoded: {error}") from error


def _without_number(file: Path) -> str:
    stem = printable(file.stem)
    return stem.rstrip("0123456789").rstrip("-_.") or stem


def _save(file: Path, frames: HandFrames) -> None:
    arrays = {
        name: value for name, value in vars(frames).items() if isinstance(value, np.ndarray)
    } | {f"label.{name}": value for name, value in frames.labels.items()}
    broken = np.array([dataclasses.astuple(sample) for sample in frames.broken], str)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, broken=broken.reshape(-1, 3), **arrays)


def _load(file: Path, files: tuple[Path, ...]) -> HandFrames | None:
    """What `_save` wrote; None if it is missing or damaged."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
        labels = {name: arrays.pop(f"label.{name}") for name in LABELS}
        broken = tuple(BrokenSample(*row) for row in arrays.pop("broken").tolist())
        return HandFrames(files=files, labels=labels, broken=broken, **arrays)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None
