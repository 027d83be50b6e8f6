"""Labelled images in parquet: one row per image, embedded or named by its path.

Columns: `split` (train, val, test and their aliases), `image_path`, `class_id` (1 = open,
0 = closed) or else `label` ("open", "closed"), and optionally `source` and `image_bytes` (an
encoded image file, used instead of the path).
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrecipes.data.parquet_files import column_names, find_parquet_files, read_columns
from jaxrecipes.data.split_names import split_name
from jaxrecipes.data.stored_images import StoredImages, check_image_columns
from jaxrecipes.errors import named_rows

_log = logging.getLogger("jaxrecipes")

CLASS_IDS = {"closed": 0, "open": 1}
SPLITS = ("train", "val", "test")

_TEXT_COLUMNS = ("split", "image_path", "class_id", "label", "source")


class NoUsableRowsError(RuntimeError, ValueError):
    """The table has no row with a known split and a path."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledImages(StoredImages):
    """The usable rows, column by column and in the order of the files.

    Attributes:
      labels: `[N]` int32 class numbers, 1 = open and 0 = closed; see `check_labels`.
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
        """The number of rows of each split."""
        return {name: int(np.sum(self.split == name)) for name in SPLITS}

    def subset(self, split: str) -> "LabelledImages":
        """The rows of one split, in order; val and test may be empty."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
        return self.keep(self.split == split)


def read_labelled_images(data_root: str | Path) -> LabelledImages:
    """Reads everything but the images themselves.

    Rows of an unknown split or a blank path are left out, and a warning counts and names them.
    `class_id` is the label if it is not null, otherwise `label`. Paths are relative to the first
    file's folder. A null path counts as blank and a null source as unknown.

    Args:
      data_root: see `find_parquet_files`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a file that is not parquet, a missing column, a `class_id` that is no whole
        number, a label that is neither open nor closed, a column of images of another type;
        NoUsableRowsError (also a RuntimeError) when no row is left.
    """
    files = find_parquet_files(data_root)
    check_image_columns(files)
    found: list[tuple[int, str, str, int, str, str]] = []
    first_row = 0
    for file in files:
        columns, count = _read_text_columns(file)
        found.extend(_usable_rows(columns, count, file, first_row))
        first_row += count
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
    """Image files without labels, to be predicted: all have the placeholder label 0 and the split
    test.
    """
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


def _read_text_columns(file: Path) -> tuple[dict[str, list[Any]], int]:
    """The columns by name (all null if the file lacks one), and the number of rows."""
    names = column_names(file)
    missing = [name for name in ("split", "image_path") if name not in names]
    if not {"class_id", "label"} & set(names):
        missing.append("class_id or label")
    if missing:
        raise ValueError(
            f"{file} lacks the column {' and '.join(missing)}; its columns are {', '.join(names)}"
        )
    columns = read_columns(file, [name for name in _TEXT_COLUMNS if name in names])
    count = len(columns["split"])
    return {name: columns.get(name, [None] * count) for name in _TEXT_COLUMNS}, count


def _usable_rows(
    columns: Mapping[str, Sequence[Any]], count: int, file: Path, first_row: int
) -> list[tuple[int, str, str, int, str, str]]:
    """Row, split, path, class number, text of the label and source of each usable row."""
    usable = []
    left_out: dict[str, list[int]] = {"without an image_path": [], "of an unknown split": []}
    contradicted: list[int] = []
    for row in range(count):
        cells = {name: columns[name][row] for name in _TEXT_COLUMNS}
        where = f"row {row} of {file}"
        split = split_name(cells["split"])
        path, label, source = (
            _text(cells[name], f"{where}: {name}") for name in ("image_path", "label", "source")
        )
        path = path.replace("\\", "/")
        if not path.strip():
            left_out["without an image_path"].append(row)
        elif split is None:
            left_out["of an unknown split"].append(row)
        else:
            number = _class_number(cells["class_id"], label, f"{where} ({path})")
            if CLASS_IDS.get(label.strip().lower(), number) != number:
                contradicted.append(row)
            usable.append((first_row + row, split, path, number, label, source or "unknown"))
    for why, rows in left_out.items():
        if rows:
            _log.warning("%s: left out %s", file, named_rows(rows, why))
    if contradicted:
        _log.warning(
            "%s: class_id and label contradict each other, and class_id counts: %s",
            *(file, named_rows(contradicted)),
        )
    return usable


def _text(value: object, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str | int):
        raise ValueError(f"{where} is {repr(value)[:60]}; expected a text")
    return str(value)


def _class_number(class_id: Any, label: str, where: str) -> int:
    if class_id is not None and class_id == class_id:  # pandas turns null into NaN
        try:
            number = int(class_id)
            exact = number == (float(class_id) if isinstance(class_id, str) else class_id)
        except (TypeError, ValueError, ArithmeticError):
            exact = False
        if not exact or abs(number) > np.iinfo(np.int32).max:
            raise ValueError(
                f"{where}: class_id is {repr(class_id)[:60]}; expected 0 (closed) or 1 (open), and "
                "nothing between: decide by a threshold, or remove the row"
            )
        return number
    name = label.strip().lower()
    if name not in CLASS_IDS:
        raise ValueError(
            f"{where}: label {label[:60]!r} is neither open nor closed, and class_id is null"
        )
    return CLASS_IDS[name]


def check_labels(data: LabelledImages) -> None:
    """Raises a ValueError that names the first row whose label is neither 0 nor 1."""
    strange = np.flatnonzero(~np.isin(data.labels, (0, 1)))
    if len(strange):
        values = np.unique(data.labels[strange])
        first = strange[0]
        raise ValueError(
            f"class_id must be 0 (closed) or 1 (open); found {values[:5].tolist()} in "
            f"{len(strange)} rows, the first is row {data.rows[first]} (from 0): "
            f"{data.paths[first]}"
        )


def check_trainable(data: LabelledImages) -> None:
    """Raises a ValueError unless the train split has both classes and every label is 0 or 1."""
    check_labels(data)
    train = data.labels[data.split == "train"]
    if not len(train):
        raise ValueError(f"no row of the train split; the splits have {data.split_counts()} rows")
    if len(np.unique(train)) == 1:
        only = "open" if train[0] == 1 else "closed"
        raise ValueError(f"all {len(train)} train rows are {only}; training needs both classes")
