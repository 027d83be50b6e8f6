"""Labelled images in parquet: one row per image, embedded or named by its path.

Columns: `split` (train, val, test and their aliases), `image_path`, `class_id` (1 = open,
0 = closed) or else `label` ("open", "closed"), and optionally `source` and `image_bytes` (an
encoded image file, which wins over the path).
"""

import dataclasses
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

CLASS_IDS = {"closed": 0, "open": 1}
SPLITS = ("train", "val", "test")

_SPLIT_ALIASES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_TEXT_COLUMNS = ("split", "image_path", "class_id", "label", "source")


class NoUsableRowsError(RuntimeError, ValueError):
    """The table has no row with a known split and a path."""


@dataclasses.dataclass(frozen=True)
class LabelledImages:
    """The usable rows, column by column and in the order of the files.

    Attributes:
      paths: `[N]` str, image paths as written, with slashes.
      labels: `[N]` int32 class numbers, 1 = open and 0 = closed; not range-checked.
      label_names: `[N]` str, the text of the label column as written.
      split: `[N]` str, "train", "val" or "test".
      source: `[N]` str, the video or collection, "unknown" where missing.
      base_frame: `[N]` str, the file's name.
      rows: `[N]` int64, row numbers over all files, ascending.
      files: the parquet files; none for a plain list of image files.
      root: folder that relative image paths start at.
    """

    paths: np.ndarray
    labels: np.ndarray
    label_names: np.ndarray
    split: np.ndarray
    source: np.ndarray
    base_frame: np.ndarray
    rows: np.ndarray
    files: tuple[Path, ...]
    root: Path

    def __len__(self) -> int:
        return len(self.labels)

    def split_counts(self) -> dict[str, int]:
        """How many rows each split has."""
        return {name: int(np.sum(self.split == name)) for name in SPLITS}

    def keep(self, mask: np.ndarray) -> "LabelledImages":
        """The rows where `mask` `[N]` bool is true."""
        columns = {
            field.name: value[mask]
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), np.ndarray)
        }
        return dataclasses.replace(self, **columns)

    def subset(self, split: str) -> "LabelledImages":
        """The rows of one split, in order; val and test may be empty."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
        return self.keep(self.split == split)

    def file_of(self, index: int) -> Path:
        """Where the image of row `index` lies unless it is embedded."""
        return self.root / self.paths[index]

    def iter_encoded(self, chunk: int = 256) -> Iterator[list[bytes | None]]:
        """The embedded image files, in order, at most `chunk` at a time; None where there is none.

        They are read from the parquet as the iteration goes, so memory stays small.
        """
        if not self.files:
            for start in range(0, len(self), chunk):
                yield [None] * min(chunk, len(self) - start)
        first_row = 0
        for file in self.files:
            with pq.ParquetFile(file) as parquet:
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
                                yield batch.column(0).take(pa.array(wanted)).to_pylist()
                    first_row += group_rows

    def _rows_within(self, first: int, count: int) -> np.ndarray:
        start, end = np.searchsorted(self.rows, (first, first + count))
        return self.rows[start:end]

    def load_image(self, index: int) -> Image.Image:
        """Decodes one image to RGB.

        Raises:
          FileNotFoundError: it is neither embedded nor a file.
        """
        chosen = np.zeros(len(self), bool)
        chosen[index] = True
        (encoded,) = next(self.keep(chosen).iter_encoded())
        return decode_rgb(encoded, self.file_of(index))


def decode_rgb(encoded: bytes | None, file: Path) -> Image.Image:
    """The embedded image, or else the file's, as RGB."""
    if encoded is None and not file.is_file():
        raise FileNotFoundError(f"image {file} does not exist and is not embedded")
    with Image.open(file if encoded is None else io.BytesIO(encoded)) as image:
        return image.convert("RGB")


def find_parquet_files(data_root: str | Path) -> tuple[Path, ...]:
    """The files of a data set: the file itself, or those of a folder.

    In a folder: all `dataset_*.parquet` sorted, else `dataset.parquet`, else all `*.parquet`
    sorted.

    Raises:
      FileNotFoundError: nothing of the kind.
    """
    root = Path(data_root)
    if root.is_file():
        return (root,)
    if not root.is_dir():
        raise FileNotFoundError(f"data path {root} does not exist; want a parquet file or a folder")
    for pattern in ("dataset_*.parquet", "dataset.parquet", "*.parquet"):
        if files := sorted(file for file in root.glob(pattern) if file.is_file()):
            return tuple(files)
    raise FileNotFoundError(
        f"folder {root} holds no parquet file; scripts/make_dataset.py makes one from images"
    )


def read_labelled_images(data_root: str | Path) -> LabelledImages:
    """Reads everything but the images themselves.

    Rows of an unknown split or a blank path are left out. `class_id` is the label where it is not
    null, the text of `label` otherwise. Relative paths start at the first file's folder. A null
    path counts as blank and a null source as unknown.

    Args:
      data_root: see `find_parquet_files`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a file that is not parquet, a missing column, a label that is neither open nor
        closed; NoUsableRowsError (also a RuntimeError) when no row is left.
    """
    files = find_parquet_files(data_root)
    found: list[tuple[int, str, str, int, str, str]] = []
    first_row = 0
    for file in files:
        table = _read_text_columns(file)
        found.extend(_usable_rows(table, file, first_row))
        first_row += table.num_rows
    if not found:
        raise NoUsableRowsError(
            f"no usable row in {', '.join(map(str, files))}: of {first_row} rows none has an "
            "image_path and a split among train, val and test"
        )
    rows, splits, paths, labels, label_names, sources = zip(*found, strict=True)
    return LabelledImages(
        paths=np.array(paths, object),
        labels=np.array(labels, np.int32),
        label_names=np.array(label_names, object),
        split=np.array(splits, object),
        source=np.array(sources, object),
        base_frame=np.array([path.rsplit("/", 1)[-1] for path in paths], object),
        rows=np.array(rows, np.int64),
        files=files,
        root=files[0].parent,
    )


def image_files(paths: Sequence[Path]) -> LabelledImages:
    """Image files without labels, to be predicted: label 0 stands in, and all are in test."""
    count = len(paths)
    names = [path.as_posix() for path in paths]
    return LabelledImages(
        paths=np.array(names, object),
        labels=np.zeros(count, np.int32),
        label_names=np.array([""] * count, object),
        split=np.array(["test"] * count, object),
        source=np.array(["unknown"] * count, object),
        base_frame=np.array([path.name for path in paths], object),
        rows=np.arange(count),
        files=(),
        root=Path(),
    )


def _read_text_columns(file: Path) -> pa.Table:
    try:
        names = pq.read_schema(file).names
    except pa.ArrowInvalid as error:
        raise ValueError(f"{file} is not a readable parquet file: {error}") from error
    missing = [name for name in ("split", "image_path") if name not in names]
    if not {"class_id", "label"} & set(names):
        missing.append("class_id or label")
    if missing:
        raise ValueError(
            f"{file} lacks the column {' and '.join(missing)}; its columns are {', '.join(names)}"
        )
    return pq.read_table(file, columns=[name for name in _TEXT_COLUMNS if name in names])


def _usable_rows(
    table: pa.Table, file: Path, first_row: int
) -> Iterator[tuple[int, str, str, int, str, str]]:
    columns = {
        name: table[name].to_pylist() if name in table.column_names else [None] * table.num_rows
        for name in _TEXT_COLUMNS
    }
    values = zip(*(columns[name] for name in _TEXT_COLUMNS), strict=True)
    for row, (split_text, path, class_id, label, source) in enumerate(values):
        split = _SPLIT_ALIASES.get(_text(split_text).strip().lower())
        path = _text(path).replace("\\", "/")
        if split is None or not path.strip():
            continue
        class_number = _class_number(class_id, label, f"row {row} of {file} ({path})")
        source = _text(source) or "unknown"
        yield first_row + row, split, path, class_number, _text(label), source


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _class_number(class_id: object, label: object, where: str) -> int:
    if class_id is not None and not (isinstance(class_id, float) and math.isnan(class_id)):
        try:
            return int(class_id)  # type: ignore[call-overload]
        except (TypeError, ValueError):
            raise ValueError(f"{where}: class_id {class_id!r} is not a whole number") from None
    name = _text(label).strip().lower()
    if name not in CLASS_IDS:
        raise ValueError(
            f"{where}: label {label!r} is neither open nor closed, and class_id is null"
        )
    return CLASS_IDS[name]


def check_trainable(data: LabelledImages) -> None:
    """Raises a ValueError unless the train split has both classes and every label is 0 or 1."""
    strange = np.setdiff1d(data.labels, (0, 1))
    if len(strange):
        example = data.paths[np.flatnonzero(data.labels == strange[0])[0]]
        raise ValueError(
            f"class_id must be 0 (closed) or 1 (open); found {strange.tolist()}, first at {example}"
        )
    train = data.labels[data.split == "train"]
    if not len(train):
        raise ValueError(f"no row of the train split; the splits have {data.split_counts()} rows")
    if len(np.unique(train)) == 1:
        only = "open" if train[0] == 1 else "closed"
        raise ValueError(f"all {len(train)} train rows are {only}; training needs both classes")


def pos_weight(labels: np.ndarray) -> float:
    """Negatives / positives, the weight of class 1 in the loss; 1 when a class is missing."""
    positives = int(np.sum(labels))
    negatives = len(labels) - positives
    if positives == 0 or negatives == 0:
        warnings.warn("a class is missing from the labels; pos_weight is 1", stacklevel=2)
        return 1.0
    return negatives / positives


def sampling_weights(labels: np.ndarray) -> np.ndarray:
    """`[N]` float64, 1 / size of each example's class: the classes are drawn equally often."""
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return 1.0 / counts[inverse]
