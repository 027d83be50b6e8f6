"""Arrays that users bring in `.npz` and `.npy` files, read and checked with clear errors."""

import pathlib
import zipfile

import numpy as np


def read_arrays(path: pathlib.Path, *, npy_name: str) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` by name; a `.npy` is one array, called `npy_name`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: another type of file, or one that cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    if path.suffix not in (".npy", ".npz"):
        raise ValueError(f"{path} is no .npz or .npy file")
    try:
        loaded = np.load(path, allow_pickle=False)
        return {npy_name: loaded} if path.suffix == ".npy" else dict(loaded)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a readable {path.suffix} file: {error}") from error


def check_rows(
    array: np.ndarray | None, row_shape: tuple[int, ...], what: str, *, count: int | None = None
) -> np.ndarray:
    """The array as float32 `[N, *row_shape]`.

    Args:
      array: what was read; None: nothing was.
      row_shape: the wanted shape of a row; -1 stands for any size.
      what: its name in errors.
      count: the wanted N; None: 1 or more.

    Raises:
      ValueError: no array, no numbers, another shape, or numbers that are not finite.
    """
    sizes = ["N" if count is None else str(count)]
    sizes += ["D" if size == -1 else str(size) for size in row_shape]
    wanted = f"want numbers [{', '.join(sizes)}]"
    if array is None:
        raise ValueError(f"there are no {what}; {wanted}")
    fits = array.ndim == 1 + len(row_shape) and all(
        wanted_size in (-1, size)
        for wanted_size, size in zip(row_shape, array.shape[1:], strict=True)
    )
    if array.dtype.kind not in "fiu" or not fits or len(array) != (count or len(array) or 1):
        raise ValueError(f"the {what} are {array.dtype} {list(array.shape)}; {wanted}")
    finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if not finite.all():
        first = int(np.flatnonzero(~finite)[0])
        raise ValueError(f"the {what} are not all finite; the first such row is {first}")
    return np.asarray(array, np.float32)
