"""Reads users' parquet files, with one clear line for each that cannot be read."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jaxrecipes.data.image_folders import nameable
from jaxrecipes.files import check_content
from jaxrecipes.paths import user_path


def find_parquet_files(data_root: str | Path) -> tuple[Path, ...]:
    """The files of a data set: the file itself, or those of a folder.

    In a folder: all `dataset_*.parquet` sorted, else `dataset.parquet`, else all `*.parquet`
    sorted; names that begin with a dot are ignored.

    Raises:
      FileNotFoundError: there are none.
    """
    root = user_path(data_root)
    if root.is_file():
        return (root,)
    if not root.is_dir():
        raise FileNotFoundError(
            f"data path {root} does not exist; expected a parquet file or a folder"
        )
    for pattern in ("dataset_*.parquet", "dataset.parquet", "*.parquet"):
        found = nameable(sorted(root.glob(pattern)))
        if files := [file for file in found if file.is_file() and not file.name.startswith(".")]:
            return tuple(files)
    raise FileNotFoundError(
        f"folder {root} holds no parquet file; jaxrecipes make_dataset makes one from images"
    )


@contextlib.contextmanager
def open_parquet(file: Path) -> Iterator[pq.ParquetFile]:
    """Opens the file; pyarrow's errors about its content in the block become one-line errors.

    Raises:
      ValueError: the file is empty, a Git LFS pointer, not parquet, or damaged. FileNotFoundError:
        it does not exist.
    """
    check_content(file)
    try:
        with pq.ParquetFile(file) as parquet:
            yield parquet
    # Damaged pages raise an OSError without an errno, unlike the errors of the operating system.
    except (pa.ArrowException, OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        said = str(error).splitlines()[0].strip() if str(error) else type(error).__name__
        raise ValueError(
            f"{file} is not a readable parquet file: {said[:200]}; write or download it again"
        ) from error


def column_names(file: Path) -> list[str]:
    """The names of the columns.

    Raises:
      ValueError: see `open_parquet`; or a name occurs twice.
    """
    with open_parquet(file) as parquet:
        names = parquet.schema_arrow.names
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{file} has the column {' and '.join(repeated)} more than once")
    return names


def read_columns(file: Path, columns: Sequence[str]) -> dict[str, list[Any]]:
    """The values of some columns.

    Raises:
      ValueError: see `open_parquet`.
    """
    with open_parquet(file) as parquet:
        table = parquet.read(columns=list(columns))
        return {name: table[name].to_pylist() for name in columns}


def check_image_column(schema: pa.Schema, file: Path, name: str = "image_bytes") -> None:
    """Raises a ValueError if the column exists but does not hold encoded image files: binary, or
    Hugging Face's struct of `bytes` and `path`.
    """
    if name not in schema.names:
        return
    kind = schema.field(name).type
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        fits = index >= 0 and _is_binary(kind.field(index).type)
    else:
        fits = _is_binary(kind)
    if not fits:
        raise ValueError(
            f"{file}: the column {name} holds {str(kind)[:80]}; expected encoded image files (PNG, "
            "JPEG ...) as binary, or a struct of bytes and path as Hugging Face writes it"
        )


def encoded_images(column: pa.Array | pa.ChunkedArray) -> list[bytes | None]:
    """The encoded images of a column that `check_image_column` accepts; None where there is no
    image.
    """
    if pa.types.is_struct(column.type):
        column = pc.struct_field(column, "bytes")
    return column.to_pylist()


def _is_binary(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_binary(kind.value_type)
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_null(kind)
    )
