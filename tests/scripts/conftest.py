"""What the tests of the scripts share."""

import os
import pickle

import pytest
from filelock import FileLock
from script_runs import TINY, run, write_pngs


@pytest.fixture(scope="session")
def tiny():
    """Flags of the tiny configuration, with the session's folder of compiled programs."""
    return [*TINY, "--loop.compilation_cache", os.environ["JAX_COMPILATION_CACHE_DIR"]]


@pytest.fixture(scope="session")
def trained(tiny, tmp_path_factory):
    """(folder, finished process) of an undisturbed run, the same one for all workers."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    workdir, finished = folder / "undisturbed", folder / "undisturbed.pickle"
    with FileLock(folder / "undisturbed.lock"):
        if not finished.exists():
            done = run("train", *tiny, "--workdir", workdir)
            assert done.returncode == 0, done.stderr
            finished.write_bytes(pickle.dumps(done))
    return workdir, pickle.loads(finished.read_bytes())


@pytest.fixture(scope="session")
def eyes(tmp_path_factory):
    """PNG files of 80 eyes in folders that name their class."""
    return write_pngs(tmp_path_factory.mktemp("eyes"), 80)
