"""A run's folder: its name, its lock, and its JSON files, each written whole or not at all."""

import contextlib
import datetime
import json
import math
import pathlib
from typing import Any

import jax

from jaxrecipes.errors import cause
from jaxrecipes.files import write_bytes
from jaxrecipes.locks import alone_in


def alone_in_run(folder: pathlib.Path) -> contextlib.AbstractContextManager[None]:
    """Holds a run's folder for this process, or for all that train together: see `alone_in`."""
    return alone_in(folder) if jax.process_index() == 0 else contextlib.nullcontext()


def new_folder(parent: pathlib.Path, name: str) -> pathlib.Path:
    """Makes a folder called `NAME-DATE-TIME`, with a number behind it where another process has
    just made that one.
    """
    parent.mkdir(parents=True, exist_ok=True)
    dated = parent / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    folder, number = dated, 1
    while True:
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1
            folder = dated.with_name(f"{dated.name}.{number}")


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes strict JSON: NaN and infinities become null."""
    write_bytes(path, (json.dumps(_strict(value), indent=2) + "\n").encode())


def read_json(path: pathlib.Path) -> Any:
    """Reads a JSON file.

    Raises:
      ValueError: the file is not JSON, or nested deeper than any of ours.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not valid JSON ({cause(error)}); restore it or start in a new folder"
        ) from error


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _strict(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
