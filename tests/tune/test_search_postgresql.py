"""A search on a real PostgreSQL server, which the test starts and stops; skipped without one."""

import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest
from test_search import outcomes
from toy_search import toy_search, toy_study


def program(name):
    """Where one of PostgreSQL's programs is, on the path or where Debian puts it."""
    debian = sorted(map(str, pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}")))
    return shutil.which(name) or (debian[-1] if debian else None)


pytestmark = [
    pytest.mark.skipif(program("initdb") is None, reason="PostgreSQL is not installed"),
]


@pytest.fixture(scope="module")
def url():
    """A server of its own that listens on a socket in its folder."""
    pytest.importorskip("psycopg")
    folder = pathlib.Path(tempfile.mkdtemp())  # those of pytest are closed to other users
    # The server refuses to run as root.
    user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    user = user if os.getuid() == 0 else []
    if user:
        shutil.chown(folder, "nobody", "nogroup")

    def run(name, *arguments):
        command = [*user, program(name), "-D", folder / "data", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
        assert done.returncode == 0, done.stderr

    run("initdb", "-U", "jaxrecipes", "--auth=trust", "--no-sync")
    log = folder / "server.log"
    run("pg_ctl", "-w", "-l", log, "-o", f"-k {folder} -c listen_addresses='' -F", "start")
    yield f"postgresql+psycopg://jaxrecipes@/postgres?host={folder}"
    run("pg_ctl", "-m", "immediate", "stop")
    shutil.rmtree(folder)


def test_a_population_gives_the_results_that_it_gives_on_sqlite(url, tmp_path):
    found = []
    shared = None
    for name, storage in (("postgresql", url), ("sqlite", None)):
        search = toy_search(
            tmp_path / name,
            storage=storage,
            pruner="asha",
            shared=shared,
            together={"population": 2},
        )
        assert search.run(4)
        shared = search.shared
        found.append(outcomes(search))
    assert found[0] == found[1]


def test_processes_share_trials_and_adopt_those_of_a_dead_one(url, tmp_path):
    first, second = (toy_study(tmp_path, storage=url) for _ in range(2))
    claimed = [*first.draw(2, 3), *second.draw(2, 3)]
    assert [one.trial.number for one in claimed] == [0, 1, 2]
    claimed[1].lock.release()  # as when its process dies
    assert [one.trial.number for one in second.adopt(3)] == [1]
