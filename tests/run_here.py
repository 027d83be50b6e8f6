"""Runs a script in the process of the test, which is quicker than one of its own."""

import contextlib
import dataclasses
import io
import logging
import os
import pathlib
import runpy
import sys
from typing import Any

import jax

ROOT = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


_CACHE = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


def run_here(script: str, *arguments: Any) -> Outcome:
    """Runs a script to its end in this process, which it leaves as it found it."""
    path = str(ROOT / "scripts" / f"{script}.py")
    library, absl = logging.getLogger("jaxrecipes"), logging.getLogger("absl")
    before = library.handlers[:], library.level, library.propagate, absl.level
    cache = {name: getattr(jax.config, name) for name in _CACHE}
    folder, argv, out, err = os.getcwd(), sys.argv, io.StringIO(), io.StringIO()
    code: Any = 0
    os.chdir(ROOT)
    sys.argv = [path, *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        code = end.code or 0
    finally:
        os.chdir(folder)
        sys.argv = argv
        for handler in library.handlers:
            if handler not in before[0]:
                handler.close()
        library.handlers[:], library.level, library.propagate, absl.level = before
        for name, value in cache.items():
            jax.config.update(name, value)
    return Outcome(code, out.getvalue(), err.getvalue())
