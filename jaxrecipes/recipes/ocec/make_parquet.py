"""Makes the parquet file that the recipe reads from a folder of images or annotation files."""

import collections
import csv
import logging
import math
import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jaxrecipes.data.image_folders import class_of, class_word, find_images
from jaxrecipes.data.parquet_files import read_columns
from jaxrecipes.errors import listed, shortened, telling
from jaxrecipes.recipes.ocec.labelled_images import CLASS_IDS

_log = logging.getLogger("jaxrecipes")

_ROWS_PER_GROUP = 4096
_SMALLEST_REAL_ID = 100_000_000


def make_parquet(
    output: str | Path,
    *,
    annotations: Sequence[str | Path] = (),
    images: Sequence[str | Path] = (),
    train_ratio: float = 0.8,
    seed: int = 42,
    embed_images: bool = False,
    max_rows_per_file: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Writes split, label, class_id, image_path, source and optionally image_bytes.

    The label of an annotated image is open or closed where that is a word of the file's name, else
    what the class number says (so text and number can disagree; training goes by the number). Of
    each label the first floor(n * train_ratio) rows of a shuffle are train, the
    others val; with more than one row each side gets at least one. Rows are sorted by split, label
    and path. A path given twice counts once. Image paths are stored relative to the output folder.

    Args:
      output: parquet file; with `max_rows_per_file` the name's stem, to which _0001 and so on is
        added.
      annotations: CSV files without header, image_path and class_id (1 = open); or folders, of
        which every `*.csv` counts that is not hidden. Relative image paths start at the CSV's
        folder or, where there is no such file, at the current one.
      images: folders searched for images, see `image_folders.find_images`. The class is that of
        the nearest folder with the whole word open or closed in its name, or else what the file's
        own name says; a warning counts the files whose name says otherwise than their folder.
      train_ratio: strictly between 0 and 1.
      seed: of the shuffle.
      embed_images: store the encoded files too.
      max_rows_per_file: None: one file.
      progress: called with (rows written, rows in all).

    Returns:
      The files written.

    Raises:
      FileNotFoundError: a missing annotation file, folder or image (up to ten are named).
      ValueError: a ratio outside (0, 1), no image, a bad line, a class that cannot be inferred, or
        a file that is given both.
    """
    if not 0.0 < train_ratio < 1.0:
        raise ValueError(f"train_ratio is {train_ratio}; it must lie strictly between 0 and 1")
    if max_rows_per_file is not None and max_rows_per_file < 1:
        raise ValueError(f"max_rows_per_file is {max_rows_per_file}; it must be 1 or more")
    output = Path(output)
    labels: dict[Path, str] = {}
    class_ids: dict[Path, int] = {}
    known: dict[str, Path] = {}
    for path, class_id, label in _collect(annotations, images):
        first = known.setdefault(os.path.realpath(path), path)
        if class_ids.setdefault(first, class_id) != class_id:
            same = "" if first == path else f" (the same file as {first})"
            raise ValueError(
                f"image {path}{same} is given as open and as closed; remove one of the two"
            )
        labels.setdefault(first, label)
    if not class_ids:
        raise ValueError("no images: give annotation files or folders that hold some")
    absent = [str(path) for path in class_ids if not path.is_file()]
    if absent:
        raise FileNotFoundError(f"{len(absent)} images do not exist: {', '.join(absent[:10])}")
    rows = [
        {
            "split": split,
            "label": labels[path],
            "class_id": class_ids[path],
            "image_path": Path(os.path.relpath(path, output.parent)).as_posix(),
            "source": source_of(path),
            "file": path,
        }
        for path, split in split_by_label(labels, train_ratio, seed).items()
    ]
    rows.sort(key=lambda row: (row["split"], row["label"], row["image_path"]))
    output.parent.mkdir(parents=True, exist_ok=True)
    if max_rows_per_file is None:
        files = {output: rows}
    else:
        starts = range(0, len(rows), max_rows_per_file)
        files = {
            output.with_name(f"{output.stem}_{number:04d}.parquet"): rows[
                start : start + max_rows_per_file
            ]
            for number, start in enumerate(starts, start=1)
        }
    done = 0
    for file, part in files.items():
        for count in _write(file, part, embed_images):
            done += count
            if progress is not None:
                progress(done, len(rows))
    return list(files)


def split_by_label(labels: dict[Path, str], train_ratio: float, seed: int) -> dict[Path, str]:
    """Assigns train or val, label by label in sorted order, with a single generator."""
    generator = random.Random(seed)
    splits: dict[Path, str] = {}
    for label in sorted(set(labels.values())):
        paths = [path for path, name in labels.items() if name == label]
        generator.shuffle(paths)
        count = math.floor(len(paths) * train_ratio)
        if len(paths) > 1:
            count = min(max(count, 1), len(paths) - 1)
        splits.update({path: "train" if i < count else "val" for i, path in enumerate(paths)})
    return splits


def source_of(path: Path) -> str:
    """Tells real from collected data by the folder right after one named "cropped"."""
    parts = path.parts
    if "cropped" not in parts[:-1]:
        return "unknown"
    folder = parts[parts.index("cropped") + 1]
    if not (folder.isascii() and folder.isdigit()):
        return "unknown"
    return "real_data" if int(folder) >= _SMALLEST_REAL_ID else "train_dataset"


def count_classes(files: Sequence[Path]) -> dict[str, dict[str, int]]:
    """The number of images of each class in each split of these files: split, then class."""
    counts: dict[str, collections.Counter[str]] = {}
    names = {number: name for name, number in CLASS_IDS.items()}
    for file in files:
        columns = read_columns(file, ["split", "class_id"])
        for split, class_id in zip(columns["split"], columns["class_id"], strict=True):
            counts.setdefault(split, collections.Counter())[names[class_id]] += 1
    return {split: dict(counter) for split, counter in counts.items()}


def _collect(
    annotations: Sequence[str | Path], images: Sequence[str | Path]
) -> Iterator[tuple[Path, int, str]]:
    """Path, class number and label of each image."""
    for file in _annotation_files(annotations):
        for path, class_id in _read_annotation(file):
            said = "open" if class_id == 1 else "closed"
            yield path, class_id, class_word(path.stem) or said
    for folder in map(Path, images):
        if not folder.is_dir():
            raise FileNotFoundError(f"folder of images {folder} does not exist")
        contradicting = []
        for path in find_images(folder):
            label = class_of(path, folder)
            if label is None:
                raise ValueError(
                    f"cannot tell the class of {path}: no folder's name and not its own has the "
                    "word open, or the word closed; give an annotation file instead"
                )
            if class_word(path.stem) not in (None, label):
                contradicting.append(path)
            yield path, CLASS_IDS[label], label
        if contradicting:
            _log.warning(
                "%d images have the class of their folder though their name says otherwise: %s",
                *(len(contradicting), listed(contradicting, 5)),
            )


def _annotation_files(annotations: Sequence[str | Path]) -> Iterator[Path]:
    for path in map(Path, annotations):
        if path.is_dir():
            yield from sorted(f for f in path.glob("*.csv") if not f.name.startswith("."))
        elif path.is_file():
            yield path
        else:
            raise FileNotFoundError(f"annotation file {path} does not exist")


def _read_annotation(file: Path) -> Iterator[tuple[Path, int]]:
    with (
        telling(f"{file} is not a readable CSV file in UTF-8", csv.Error, UnicodeDecodeError),
        file.open(newline="", encoding="utf-8-sig") as stream,
    ):
        for number, fields in enumerate(csv.reader(stream), start=1):
            if not any(field.strip() for field in fields):
                continue
            if len(fields) < 2 or fields[1].strip() not in ("0", "1"):
                raise ValueError(
                    f"line {number} of {file} is {shortened(','.join(fields), 80)!r}; expected "
                    "image_path,class_id with class_id 0 (closed) or 1 (open), and no header"
                )
            path = Path(fields[0].strip().replace("\\", "/"))
            beside = file.parent / path
            yield beside if beside.is_file() else path, int(fields[1])


def _write(file: Path, rows: list[dict], embed_images: bool) -> Iterator[int]:
    """Writes group by group and yields the number of rows of each."""
    fields = [(name, pa.string()) for name in ("split", "label")]
    fields += [("class_id", pa.int64()), ("image_path", pa.string()), ("source", pa.string())]
    if embed_images:
        fields.append(("image_bytes", pa.binary()))
    schema = pa.schema(fields)
    with pq.ParquetWriter(file, schema) as writer:
        for start in range(0, len(rows), _ROWS_PER_GROUP):
            group = rows[start : start + _ROWS_PER_GROUP]
            columns = {
                name: [
                    row["file"].read_bytes() if name == "image_bytes" else row[name]
                    for row in group
                ]
                for name in schema.names
            }
            writer.write_table(pa.table(columns, schema=schema))
            yield len(group)
