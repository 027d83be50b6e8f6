"""Labelled images in parquet: one row per image, embedded or named by its path.

Columns: `split` (train, val, test and their aliases), `image_path`, `class_id` (1 = open,
0 = closed) or else `label` ("open", "closed"), and optionally `source` and `image_bytes` (an
encoded image file, which wins over the path).
"""

import dataclasses
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jaxrecipes.data.stored_images import StoredImages

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledImages(StoredImages):
    """The usable rows, column by column and in the order of the files.

    Attributes:
      labels: `[N]` int32 class numbers, 1 = open and 0 = closed; not range-checked.
      label_names: `[N]` str, the text of the label column as written.
      split: `[N]` str, "train", "val" or "test".
      source: `[N]` str, the video or collection, "unknown" where missing.
      base_frame: `[N]` str, the file's name.
    """

    labels: np.ndarray
    label_names: np.ndarray
    split: np.ndarray
    source: np.ndarray
    base_frame: np.ndarray

    def split_counts(self) -> dict[str, int]:
        """How many rows each split has."""
        return {name: int(np.sum(self.split == name)) for name in SPLITS}

    def subset(self, split: str) -> "LabelledImages":
        """The rows of one split, in order; val and test may be empty."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
        return self.keep(self.split == split)


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
        split = split_name(split_text)
        path = _text(path).replace("\\", "/")
        if split is None or not path.strip():
            continue
        class_number = _class_number(class_id, label, f"row {row} of {file} ({path})")
        source = _text(source) or "unknown"
        yield first_row + row, split, path, class_number, _text(label), source


def split_name(value: object) -> str | None:
    """The split that a name means, in any case: train, val or test; None for other names."""
    return _SPLIT_ALIASES.get(_text(value).strip().lower())


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
