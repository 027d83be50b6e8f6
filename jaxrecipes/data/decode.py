"""Decodes images once, in parallel, to uint8 at the training size, and caches them on disk.

A cache entry is named by its content: the encoded images (or path, size and time of the files), the
image size, what else affects the pixels, the version of our decoder, and the major version of
Pillow, whose resizing sometimes changes by a level.
"""

import collections
import csv
import dataclasses
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Generic, Literal, get_args

import numpy as np
import PIL
from PIL import Image

from jaxrecipes.data.image_cache import DecodedChunk, ImageCache
from jaxrecipes.data.rgb_images import DECODER_VERSION, decode_rgb
from jaxrecipes.data.stored_images import Images, StoredImages
from jaxrecipes.errors import cause
from jaxrecipes.paths import user_path

Fit = Literal["squash", "center_crop"]
"""How an image is brought to its size: see `resize_rgb`, `center_crop_rgb`."""
Progress = Callable[[int, int], None]

_FORMAT_VERSION = 1
_CHUNK = 128  # images per task: small enough for a smooth progress bar


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """An image that could not be decoded, and why."""

    path: str
    reason: str


@dataclasses.dataclass(frozen=True)
class DecodedImages(Generic[Images]):
    """Images at the training size, with their rows.

    Attributes:
      images: `[M, H, W, 3]` uint8, memory-mapped and read-only.
      data: the M rows that could be read.
      unreadable: the others.
      from_cache: whether nothing had
        to be decoded.
    """

    images: np.ndarray
    data: Images
    unreadable: tuple[Unreadable, ...]
    from_cache: bool


def resize_rgb(image: Image.Image, image_size: tuple[int, int]) -> Image.Image:
    """Pillow's antialiased bilinear resize to (height, width)."""
    height, width = image_size
    return image.resize((width, height), Image.Resampling.BILINEAR)


def center_crop_rgb(image: Image.Image, image_size: tuple[int, int]) -> Image.Image:
    """The centre of a bicubic resize that keeps the proportions and covers (height, width).

    For squares this is how CLIP's images are prepared for evaluation, by Hugging Face's rules: the
    longer side is rounded down, and the smaller half of an odd margin is on the left or on top. A
    smaller image is enlarged.
    """
    height, width = image_size
    if width * image.height >= height * image.width:
        whole = width, max(height, int(width * image.height / image.width))
    else:
        whole = max(width, int(height * image.width / image.height)), height
    resized = image.resize(whole, Image.Resampling.BICUBIC)
    left, top = (whole[0] - width) // 2, (whole[1] - height) // 2
    return resized.crop((left, top, left + width, top + height))


_FITS = dict(zip(get_args(Fit), (resize_rgb, center_crop_rgb), strict=True))


def default_cache_dir() -> Path:
    """Our folder in the user's cache folder on this platform."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "jaxrecipes" / "images"


def cache_folder(cache_dir: str | Path | None) -> Path:
    """The folder of decoded images, the given one or `default_cache_dir()`; it exists and is
    writable.

    Raises:
      ValueError: it is not writable; the message names the flag that sets another one.
    """
    try:
        folder = default_cache_dir() if cache_dir is None else user_path(cache_dir)
        folder.mkdir(parents=True, exist_ok=True)
        writable, reason = os.access(folder, os.W_OK | os.X_OK), "permission denied"
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        folder = Path("~/.cache") if cache_dir is None else Path(cache_dir)
        writable, reason = False, cause(error)
    if not writable:
        raise ValueError(
            f"decoded images cannot be kept in {folder} ({reason}): give --data.cache_dir FOLDER, "
            "or set XDG_CACHE_HOME"
        )
    return folder


def decode_images(
    data: Images,
    image_size: tuple[int, int],
    *,
    fit: Fit = "squash",
    exif_orientation: bool = True,
    cache_dir: str | Path | None = None,
    on_unreadable: Literal["skip", "error"] = "skip",
    unreadable_file: str | Path | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> DecodedImages[Images]:
    """Decodes and resizes all images of `data`, or maps them from the cache.

    Args:
      data: rows to decode.
      image_size: (height, width).
      fit: whether images are squashed to that size or cropped to its proportions.
      exif_orientation: turn images as their EXIF orientation says.
      cache_dir: folder of the cache. None: `default_cache_dir()`.
      on_unreadable: "skip" leaves out missing, damaged and truncated images.
      unreadable_file: CSV (path, reason) written when there are such images.
      num_threads: None: one per core. Pillow releases the interpreter's lock while it decodes.
      progress: called with (images done, images in all) from the calling thread.

    Raises:
      ValueError: no rows, no readable image, an unreadable one with "error", or a cache that cannot
        be written.
      OSError: the disk is full.
    """
    if not len(data):
        raise ValueError("no rows to decode")
    convert = _Conversion(image_size, fit, exif_orientation)
    cache = ImageCache(cache_folder(cache_dir), _content_key(data, convert), image_size)
    strict = on_unreadable == "error"
    entry, from_cache = cache.read_or_write(
        len(data), lambda: _decode_chunks(data, convert, num_threads, progress, strict)
    )
    if from_cache and progress is not None:
        progress(len(data), len(data))
    if len(entry.images) + len(entry.unreadable) != len(data):
        raise ValueError(
            f"{', '.join(map(str, data.files))} changed while it was read: "
            f"{len(entry.images) + len(entry.unreadable)} of {len(data)} rows came back"
        )
    unreadable = tuple(Unreadable(data.paths[row], reason) for row, reason in entry.unreadable)
    if unreadable:
        if unreadable_file is not None:
            write_unreadable(unreadable_file, unreadable)
        first = f"{unreadable[0].path}: {unreadable[0].reason}"
        if on_unreadable == "error":
            raise ValueError(f"{len(unreadable)} unreadable images, the first is {first}")
        if len(unreadable) == len(data):
            raise ValueError(f"none of the {len(data)} images can be read, the first is {first}")
    readable = np.ones(len(data), bool)
    readable[[row for row, _ in entry.unreadable]] = False
    return DecodedImages(entry.images, data.keep(readable), unreadable, from_cache)


def write_unreadable(file: str | Path, unreadable: tuple[Unreadable, ...]) -> None:
    """Writes a CSV with the columns path and reason."""
    with Path(file).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "reason"))
        writer.writerows((image.path, image.reason) for image in unreadable)


@dataclasses.dataclass(frozen=True)
class _Conversion:
    """What determines the pixels of an image."""

    image_size: tuple[int, int]
    fit: Fit
    exif_orientation: bool


def _content_key(data: StoredImages, convert: _Conversion) -> str:
    digest = hashlib.blake2b(digest_size=16)
    pillow_major = PIL.__version__.split(".")[0]
    versions = f"{_FORMAT_VERSION} {DECODER_VERSION} {pillow_major}"
    digest.update(f"{versions} {convert} {len(data)}".encode())
    index = 0
    for chunk in data.iter_encoded():
        for encoded in chunk:
            if encoded is None:
                description = os.fsencode(_describe_file(data.file_of(index)))
                digest.update(b"file %d " % len(description) + description)
            else:
                digest.update(b"bytes %d " % len(encoded))
                digest.update(encoded)
            index += 1
    return digest.hexdigest()


def _describe_file(file: Path) -> str:
    try:
        status = file.stat()
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return f"{file.absolute()} missing"
    return f"{file.absolute()} {status.st_size} {status.st_mtime_ns}"


def _decode_chunk(
    encoded: list[bytes | None],
    files: list[Path],
    first: int,
    convert: _Conversion,
) -> DecodedChunk:
    images = np.empty((len(encoded), *convert.image_size, 3), np.uint8)
    readable = np.ones(len(encoded), bool)
    unreadable = []
    for index, (content, file) in enumerate(zip(encoded, files, strict=True)):
        try:
            rgb = decode_rgb(content, file, exif_orientation=convert.exif_orientation)
            images[index] = np.asarray(_FITS[convert.fit](rgb, convert.image_size))
        except Exception as error:  # damaged files may raise anything
            readable[index] = False
            reason = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
            unreadable.append((first + index, reason))
    return images[readable], unreadable


def _decode_chunks(
    data: StoredImages,
    convert: _Conversion,
    num_threads: int | None,
    progress: Progress | None,
    strict: bool,
) -> Iterator[DecodedChunk]:
    """Yields decoded chunks in the order of the rows; only a few of them are in memory at a
    time.
    """
    workers = num_threads or os.cpu_count() or 1
    pending: collections.deque[tuple[int, Future[DecodedChunk]]] = collections.deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:

        def finish() -> DecodedChunk:
            end, future = pending.popleft()
            images, unreadable = future.result()
            if strict and unreadable:
                row, reason = unreadable[0]
                raise ValueError(f"unreadable image {data.paths[row]}: {reason}")
            if progress is not None:
                progress(end, len(data))
            return images, unreadable

        first = 0
        try:
            for encoded in data.iter_encoded(_CHUNK):
                end = first + len(encoded)
                files = [data.file_of(index) for index in range(first, end)]
                task = pool.submit(_decode_chunk, encoded, files, first, convert)
                pending.append((end, task))
                first = end
                if len(pending) > 2 * workers:
                    yield finish()
            while pending:
                yield finish()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
