"""Generated images with their prompts and human ratings: a CSV file with a folder of images, or
parquet files that contain the images.

Columns: `name` (an image file), `prompt`, `mos_quality` and `mos_align` (0 to 5), and optionally an
explanation, `generator` and `split`; parquet files may have `image_bytes`, an encoded image file,
and `image_embedding`, computed by some network. Other columns are ignored.
"""

import contextlib
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrecipes.data.array_files import check_directions, check_numbers
from jaxrecipes.data.csv_files import read_csv
from jaxrecipes.data.parquet_files import column_names, find_parquet_files, read_columns
from jaxrecipes.data.rgb_images import image_size
from jaxrecipes.data.split_names import split_name
from jaxrecipes.data.stored_images import StoredImages, check_image_columns
from jaxrecipes.paths import user_path

_log = logging.getLogger("jaxrecipes")

MOS_SCALE = 5.0
"""The best mean opinion score; the worst is 0."""
_ENOUGH = 20  # rows, to judge a scale by
_SCORES = {"quality": "mos_quality", "consistency": "mos_align"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RatedTable(StoredImages):
    """The rows of a data set, in order, without the images themselves.

    Attributes:
      prompts: `[N]` str.
      quality, consistency: `[N]` float32, mean opinion scores / 5; NaN where they are not known.
      explanations: `[N]` str, None in a row that has none; None: not asked for.
      generators: `[N]` str, what made each image; None: not known.
      split: `[N]` str, "train", "val" or "test"; None: the data does not say.
      sizes: `[N, 2]` int32, height and width of the images, 0 of one that cannot be read; None: not
        looked up, see `image_sizes`.
      embeddings: `[N, d]` float32, unit vectors; None: not asked for.
    """

    prompts: np.ndarray
    quality: np.ndarray
    consistency: np.ndarray
    explanations: np.ndarray | None = None
    generators: np.ndarray | None = None
    split: np.ndarray | None = None
    sizes: np.ndarray | None = None
    embeddings: np.ndarray | None = None

    def image_sizes(self, *, exif_orientation: bool = True) -> np.ndarray:
        """`sizes`, read from the heads of the images; upright, or as they are stored."""
        sizes = np.zeros((len(self), 2), np.int32)
        row = 0
        for chunk in self.iter_encoded():
            for encoded in chunk:
                # What is wrong with an image is told when it is decoded.
                with contextlib.suppress(Exception):
                    sizes[row] = image_size(
                        encoded, self.file_of(row), exif_orientation=exif_orientation
                    )
                row += 1
        return sizes

    def check_images_exist(self) -> None:
        """Raises a FileNotFoundError that counts and names the images that are not there."""
        embedded = (bytes_ is not None for chunk in self.iter_encoded() for bytes_ in chunk)
        missing = [
            self.paths[row]
            for row, inside in enumerate(embedded)
            if not inside and not self.file_of(row).is_file()
        ]
        if missing:
            more = ", ..." if len(missing) > 3 else ""
            raise FileNotFoundError(
                f"{len(missing)} of {len(self)} images are not in {self.root}: "
                f"{', '.join(missing[:3])}{more}; data.image_folder says where they are"
            )


def read_rated_images(
    path: str | Path,
    *,
    image_folder: str | Path | None = None,
    explanation_column: str | None = None,
    rated: bool = True,
    embeddings: bool = False,
) -> RatedTable:
    """Reads everything but the images.

    Args:
      path: a CSV file, a parquet file, or a folder of parquet files.
      image_folder: where images lie that are not inside the parquet. None: beside the file.
      explanation_column: the column of explanations, if they are wanted. An empty cell, or one that
        is null, is a row without an explanation.
      rated: whether opinion scores are needed; without it the columns may be missing.
      embeddings: whether the column `image_embedding` is wanted.

    Raises:
      FileNotFoundError: nothing at `path`.
      ValueError: a file of another kind, no rows, a missing or repeated column, a row without a
        name or a prompt, a score that is no number from 0 to 5, a split of another name,
        embeddings that are of several lengths or not finite.
    """
    path = user_path(path)
    files: tuple[Path, ...]
    columns: Mapping[str, Sequence[Any]]
    if path.suffix.lower() == ".csv":
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist")
        files, columns = (), read_csv(path)
        root = path.parent
        if explanation_column is not None:
            explanation_column = explanation_column.strip().lower()  # as the header is read
    else:
        files = find_parquet_files(path)
        columns, root = _read_parquet(files, embeddings=embeddings), files[0].parent
    needed = ["name", "prompt", *(_SCORES.values() if rated else ())]
    needed += [] if explanation_column is None else [explanation_column]
    needed += ["image_embedding"] if embeddings else []
    missing = [name for name in needed if name not in columns]
    if missing:
        raise ValueError(
            f"{path} lacks the column {' and '.join(missing)}; its columns are "
            f"{', '.join(columns) or 'none'}"
        )
    count = len(columns["name"])
    if not count:
        raise ValueError(f"{path} has no rows")

    def texts(name: str) -> np.ndarray:
        values = [_text(v, f"{name} of {path}", row) for row, v in enumerate(columns[name])]
        return np.array(values, object)

    for name in ("name", "prompt"):
        empty = [row for row, value in enumerate(texts(name)) if value is None]
        if empty:
            raise ValueError(
                f"{path}: {len(empty)} of {count} rows have no {name}, the first is row "
                f"{empty[0]} (from 0); fill or remove them"
            )
    scores = {
        score: _scores(columns[column], f"{column} of {path}", rated)
        if column in columns
        else np.full(count, np.nan, np.float32)
        for score, column in _SCORES.items()
    }
    highest = max((np.nanmax(s, initial=0.0) for s in scores.values()), default=0.0) * MOS_SCALE
    if rated and count >= _ENOUGH and highest <= 1:
        _log.warning(
            "%s: all scores lie between 0 and 1, where the best is %g; if they are shares already, "
            "multiply them by %g",
            *(path, MOS_SCALE, MOS_SCALE),
        )
    names = [name.replace("\\", "/") for name in texts("name")]
    return RatedTable(
        paths=np.array(names, object),
        rows=np.arange(count),
        files=files,
        root=root if image_folder is None else user_path(image_folder),
        prompts=texts("prompt"),
        **scores,
        explanations=None if explanation_column is None else texts(explanation_column),
        generators=_generators(columns["generator"], path) if "generator" in columns else None,
        split=_splits(columns["split"], path) if "split" in columns else None,
        embeddings=_embeddings(columns["image_embedding"], path) if embeddings else None,
    )


def _read_parquet(files: Sequence[Path], *, embeddings: bool) -> Mapping[str, Sequence[Any]]:
    check_image_columns(files)
    unwanted = ("image_bytes",) if embeddings else ("image_bytes", "image_embedding")
    parts = []
    for file in files:
        names = [name for name in column_names(file) if name not in unwanted]
        parts.append(read_columns(file, names))
    shared = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: [value for part in parts for value in part[name]] for name in shared}


def _text(value: Any, what: str, row: int) -> str | None:
    """None for an empty cell: null, NaN or white space."""
    if value is None or value != value:
        return None
    if not isinstance(value, str):
        raise ValueError(
            f"{what} is {repr(value)[:60]} in row {row} (from 0); expected a text, not a "
            f"{type(value).__name__}"
        )
    return value if value.strip() else None


def _generators(values: Sequence[Any], path: Path) -> np.ndarray:
    """Names or numbers as texts; `unknown` for an empty cell."""
    names = [str(v) if type(v) is int else v for v in values]
    what = f"generator of {path}"
    return np.array([_text(v, what, row) or "unknown" for row, v in enumerate(names)], object)


def _scores(values: Sequence[Any], what: str, rated: bool) -> np.ndarray:
    scores = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        if not rated and (value is None or value != value or value == ""):
            continue
        with contextlib.suppress(ValueError, TypeError):
            if not isinstance(value, bool) and "_" not in str(value):  # Python reads 1_0 as 10
                scores[row] = float(value)
        if not 0 <= scores[row] <= MOS_SCALE:
            raise ValueError(
                f"{what} is {repr(value)[:60]} in row {row} (from 0); expected a number from 0 to "
                f"{MOS_SCALE:g}"
            )
    return (scores / MOS_SCALE).astype(np.float32)


def _embeddings(values: Sequence[Any], path: Path) -> np.ndarray:
    what = f"{path}: image_embedding"
    sizes = [len(value) if isinstance(value, list) else 0 for value in values]
    wanted = max(set(sizes), key=sizes.count)
    vectors = np.zeros((len(values), wanted), np.float32)
    for row, value in enumerate(values):
        try:
            if sizes[row] != wanted or not wanted:
                raise ValueError
            vectors[row] = value
        except (TypeError, ValueError, OverflowError):
            raise ValueError(
                f"{what} of row {row} (from 0) is {repr(value)[:60]}; expected lists of "
                f"equally many "
                "finite numbers"
            ) from None
    check_numbers(vectors, what)
    check_directions(vectors, what)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _splits(values: Sequence[Any], path: Path) -> np.ndarray:
    splits = [split_name(value) for value in values]
    if None in splits:
        row = splits.index(None)
        raise ValueError(
            f"{path}: the split is {values[row]!r} in row {row} (from 0); "
            "expected train, val or test"
        )
    return np.array(splits, object)
