"""Files that are written whole or not at all."""

import os
import pathlib


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file beside `path` and renames it, so that no reader ever sees half of it.

    The folder is made if need be.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
