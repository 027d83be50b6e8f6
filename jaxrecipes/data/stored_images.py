"""Images as users store them: encoded inside parquet files, or as files of their own."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from PIL import Image

from jaxrecipes.data.parquet_files import check_image_column, encoded_images, open_parquet
from jaxrecipes.data.rgb_images import decode_rgb

Images = TypeVar("Images", bound="StoredImages")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredImages:
    """Rows with one image each; subclasses add columns, `[N]` arrays.

    Attributes:
      paths: `[N]` str, image paths as written, with slashes.
      rows: `[N]` int64, row numbers over all files, ascending.
      files: the parquet files; empty for a plain list of image files.
      root: folder that image paths are relative to.
    """

    paths: np.ndarray
    rows: np.ndarray
    files: tuple[Path, ...]
    root: Path

    def __len__(self) -> int:
        return len(self.paths)

    def keep(self: Images, mask: np.ndarray) -> Images:
        """The rows where `mask` `[N]` bool is true."""
        columns = {
            field.name: value[mask]
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), np.ndarray)
        }
        return dataclasses.replace(self, **columns)

    def file_of(self, index: int) -> Path:
        """The path of the image of row `index`, if it is not embedded."""
        return self.root / self.paths[index]

    def iter_encoded(self, chunk: int = 256) -> Iterator[list[bytes | None]]:
        """The embedded image files, in order, at most `chunk` at a time; None where there is none.

        They are read from the parquet files during the iteration, so little memory is used.
        """
        if not self.files:
            for start in range(0, len(self), chunk):
                yield [None] * min(chunk, len(self) - start)
        first_row = 0
        for file in self.files:
            with open_parquet(file) as parquet:
                embedded = "image_bytes" in parquet.schema_arrow.names
                for group in range(parquet.num_row_groups):
                    group_rows = parquet.metadata.row_group(group).num_rows
                    if not embedded:
                        wanted = self._rows_within(first_row, group_rows)
                        for start in range(0, len(wanted), chunk):
                            yield [None] * len(wanted[start : start + chunk])
                    elif len(self._rows_within(first_row, group_rows)):
                        row = first_row
                        for batch in parquet.iter_batches(chunk, [group], ["image_bytes"]):
                            wanted = self._rows_within(row, len(batch)) - row
                            row += len(batch)
                            if len(wanted):
                                yield encoded_images(batch.column(0).take(pa.array(wanted)))
                    first_row += group_rows

    def _rows_within(self, first: int, count: int) -> np.ndarray:
        start, end = np.searchsorted(self.rows, (first, first + count))
        return self.rows[start:end]

    def load_image(self, index: int) -> Image.Image:
        """Decodes one image to RGB, upright.

        Raises:
          FileNotFoundError: it is neither embedded nor a file.
        """
        chosen = np.zeros(len(self), bool)
        chosen[index] = True
        (encoded,) = next(self.keep(chosen).iter_encoded())
        return decode_rgb(encoded, self.file_of(index))


def check_image_columns(files: Sequence[Path]) -> None:
    """Raises a ValueError for a parquet file whose `image_bytes` are not encoded images."""
    for file in files:
        with open_parquet(file) as parquet:
            check_image_column(parquet.schema_arrow, file)
