"""A run's folder: its name and its lock."""

import contextlib
import datetime
import pathlib

import jax

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
