"""Reads and checks arrays in users' `.npz` and `.npy` files, with clear errors."""

import math
import pathlib
import tokenize
import zipfile
import zlib

import numpy as np

from jaxrecipes.errors import telling
from jaxrecipes.files import check_content

LONGEST = 1e6
"""Numbers of features and points must be smaller than this."""

_SMALL, _MOST_TIMES = 2**28, 300
"""In bytes, and as a multiple of the packed size: a `.npz` member that exceeds both was made to
fill memory.
"""

_DAMAGED = (
    *(ValueError, EOFError, SyntaxError, tokenize.TokenError, OverflowError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, TypeError, OSError),
)
"""What numpy and zipfile raise for damaged, encrypted or fake files."""


def read_arrays(path: pathlib.Path, *, npy_name: str) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file by name; a `.npy` file has a single array, called `npy_name`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: another type of file, or one that cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    if path.suffix not in (".npy", ".npz"):
        raise ValueError(f"{path} is no .npz or .npy file")
    if path.suffix == ".npy":
        return {npy_name: np.array(open_array(path))}
    check_content(path)
    with telling(f"{path} is not a readable .npz file", *_DAMAGED), zipfile.ZipFile(path) as file:
        return {info.filename.removesuffix(".npy"): _member(file, info) for info in file.infolist()}


def open_array(path: pathlib.Path) -> np.ndarray:
    """The array of a `.npy` file, memory-mapped.

    Raises:
      ValueError: it cannot be read, or holds neither numbers nor strings.
    """
    check_content(path)
    with telling(f"{path} is not a readable .npy file", *_DAMAGED):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} is not a .npy file, but several arrays in one")
    return array


def _member(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """An array of a `.npz` file, read only if it has the declared number of bytes and is not a zip
    bomb.
    """
    if info.file_size > max(_SMALL, _MOST_TIMES * info.compress_size):
        raise ValueError(
            f"{info.filename} unpacks to {info.file_size} bytes from {info.compress_size}; save it "
            "with numpy.savez, unpacked"
        )
    with file.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        head = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version if version == (1, 0) else (2, 0)]
        shape, _, dtype = head(stream)
        if dtype.hasobject:
            raise ValueError(
                f"{info.filename} holds Python objects; expected plain numbers or strings"
            )
        size = math.prod(shape) * dtype.itemsize
        if size != info.file_size - stream.tell():
            raise ValueError(f"{info.filename} does not have the size that it declares")
    with file.open(info) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def check_rows(
    array: np.ndarray | None, row_shape: tuple[int, ...], what: str, *, count: int | None = None
) -> np.ndarray:
    """The array as float32 `[N, *row_shape]`.

    Args:
      array: what was read, or None.
      row_shape: the wanted shape of a row; -1 stands for any size.
      what: its name in errors.
      count: the wanted N; None: 1 or more.

    Raises:
      ValueError: there is no array, it holds no numbers or has another shape, or numbers are not
        finite or not below `LONGEST`.
    """
    sizes = ["N" if count is None else str(count)]
    sizes += ["D" if size == -1 else str(size) for size in row_shape]
    wanted = f"expected numbers [{', '.join(sizes)}]"
    if array is None:
        raise ValueError(f"there are no {what}; {wanted}")
    fits = array.ndim == 1 + len(row_shape) and all(
        wanted_size in (-1, size)
        for wanted_size, size in zip(row_shape, array.shape[1:], strict=True)
    )
    if array.dtype.kind not in "fiu" or not fits or len(array) != (count or len(array) or 1):
        raise ValueError(f"the {what} are {array.dtype} {list(array.shape)}; {wanted}")
    check_numbers(array, what)
    return np.asarray(array, np.float32)


def check_numbers(array: np.ndarray, what: str, rows: np.ndarray | None = None) -> None:
    """Raises a ValueError that names the first row with a number that is not finite or not below
    `LONGEST`, and so would overflow in a sum of squares.

    Args:
      array: `[N, ...]`.
      what: its name in errors.
      rows: `[N]`, the names of the rows; None: 0 to N - 1.
    """
    usable = (np.abs(array) < LONGEST).reshape(len(array), -1).all(axis=1)  # false for NaN
    if not usable.all():
        first = int(np.flatnonzero(~usable)[0])
        row = np.asarray(array[first]).ravel()
        value = row[~(np.abs(row) < LONGEST)][0]
        raise ValueError(
            f"{what}: {int((~usable).sum())} rows are not finite or beyond {LONGEST:g}, the first "
            f"is row {first if rows is None else int(rows[first])} (from 0) with {value:g}; mend "
            "or remove them"
        )


def check_directions(embeddings: np.ndarray, what: str, rows: np.ndarray | None = None) -> None:
    """Raises a ValueError that names the first embedding of length 0, which has no direction.

    Args:
      embeddings: `[N, D]`.
      what: their name in errors.
      rows: `[N]`, the names of the rows; None: 0 to N - 1.
    """
    empty = np.flatnonzero(~np.asarray(embeddings, np.float32).any(axis=1))
    if len(empty):
        first = int(empty[0] if rows is None else rows[empty[0]])
        raise ValueError(
            f"{what}: {len(empty)} rows have length 0 and no direction, the first is row {first} "
            "(from 0); no face was found there: remove them"
        )
