"""A table of images that are stored encoded inside files, and decoded when their rows are read."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from jaxrecipes.data.image_cache import DecodedChunk
from jaxrecipes.data.rgb_images import decode_rgb

_BLOCK = 64  # images that `decode_all` decodes at a time and holds in memory


class EncodedImages:
    """Can be used like an array `[F, H, W, 3]` uint8, with each image in the top left corner and 0
    elsewhere.

    Args:
      files: the files.
      file_of: `[F]`, the index of each image's file.
      places: `[F, 2]` int64, the position of each image in its file, and its number of bytes.
      canvas: (H, W), at least the size of every image.
      exif_orientation: turn images as their EXIF orientation says.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        files: Sequence[Path],
        file_of: np.ndarray,
        places: np.ndarray,
        canvas: tuple[int, int],
        *,
        exif_orientation: bool = True,
    ):
        self._exif_orientation = exif_orientation
        self._files, self._file_of, self._places = tuple(files), file_of, places
        self.shape = (len(file_of), *canvas, 3)

    @property
    def nbytes(self) -> int:
        """The size of the decoded images in bytes."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """The images of `rows`, integers of any shape. May be called from any number of threads.

        Raises:
          ValueError: an image cannot be decoded.
        """
        rows = np.arange(len(self))[rows]
        images = np.zeros((*rows.shape, *self.shape[1:]), np.uint8)
        for place, row in zip(np.ndindex(rows.shape), rows.flat, strict=True):
            self._decode(int(row), images[place])
        return images

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy  # decoding always makes a new array
        return np.asarray(self[:], dtype)

    def decode_all(
        self, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[DecodedChunk]:
        """All images, decoded by threads, in chunks for an `ImageCache`.

        Args:
          progress: called with (images done, images in all).
        """

        def attempt(row: int) -> tuple[np.ndarray, str]:
            image = np.zeros(self.shape[1:], np.uint8)
            try:
                self._decode(row, image)
            except ValueError as error:
                return image, str(error)
            return image, ""

        with ThreadPoolExecutor(thread_name_prefix="decode") as pool:
            for start in range(0, len(self), _BLOCK):
                rows = range(start, min(start + _BLOCK, len(self)))
                images, reasons = zip(*pool.map(attempt, rows), strict=True)
                readable = [
                    image for image, reason in zip(images, reasons, strict=True) if not reason
                ]
                failed = [
                    (row, reason) for row, reason in zip(rows, reasons, strict=True) if reason
                ]
                if progress is not None:
                    progress(rows.stop, len(self))
                yield np.reshape(readable, (-1, *self.shape[1:])).astype(np.uint8), failed

    def _decode(self, row: int, canvas: np.ndarray) -> None:
        file = self._files[self._file_of[row]]
        offset, size = self._places[row].tolist()
        with file.open("rb") as stream:
            stream.seek(offset)
            encoded = stream.read(size)
        try:
            image = np.asarray(decode_rgb(encoded, file, exif_orientation=self._exif_orientation))
            canvas[: image.shape[0], : image.shape[1]] = image
        except Exception as error:  # damaged images may raise anything
            raise ValueError(
                f"the image at byte {offset} of {file} cannot be decoded: {error}"
            ) from error
