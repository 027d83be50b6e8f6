"""Trained runs and the two ways to run a script that the tests of the scripts share."""

import os

import pytest
from script_runs import ROOT, TINY, run, run_here, write_pngs


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


@pytest.fixture
def script(monkeypatch):
    """`script("evaluate", "--checkpoint", ...)`: a script in this process, quicker than its own."""
    monkeypatch.chdir(ROOT)
    return run_here
