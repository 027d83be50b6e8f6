"""Trained runs and the two ways to run a script that the tests of the scripts share."""

import dataclasses
import logging
import os
import runpy
import sys

import jax
import pytest
from script_runs import ROOT, TINY, run, write_pngs


@pytest.fixture(scope="session")
def tiny():
    """Flags of the tiny configuration, with the session's folder of compiled programs."""
    return [*TINY, "--loop.compilation_cache", os.environ["JAX_COMPILATION_CACHE_DIR"]]


@pytest.fixture(scope="session")
def trained(tiny, tmp_path_factory):
    """(folder, finished process) of an undisturbed run."""
    workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
    done = run("train", *tiny, "--workdir", workdir)
    assert done.returncode == 0, done.stderr
    return workdir, done


@pytest.fixture(scope="session")
def eyes(tmp_path_factory):
    """PNG files of 80 eyes in folders that name their class."""
    return write_pngs(tmp_path_factory.mktemp("eyes"), 80)


@dataclasses.dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def script(monkeypatch, capsys):
    """`script("evaluate", "--checkpoint", ...)`: a script in this process, quicker than its own."""
    monkeypatch.chdir(ROOT)
    library, absl = logging.getLogger("jaxrecipes"), logging.getLogger("absl")
    before = library.handlers[:], library.level, library.propagate, absl.level
    cache = {
        name: getattr(jax.config, name)
        for name in (
            "jax_compilation_cache_dir",
            "jax_persistent_cache_min_compile_time_secs",
            "jax_persistent_cache_min_entry_size_bytes",
        )
    }

    def call(name: str, *arguments: object) -> Outcome:
        path = str(ROOT / "scripts" / f"{name}.py")
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            runpy.run_path(path, run_name="__main__")
        out, err = capsys.readouterr()
        return Outcome(end.value.code or 0, out, err)

    yield call
    for handler in library.handlers:
        handler.close()
    library.handlers[:], library.level, library.propagate, absl.level = before
    for name, value in cache.items():
        jax.config.update(name, value)
