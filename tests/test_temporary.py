"""Temporary files and locks: of two processes at once, and of processes that died."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxrecipes.data.image_cache import ImageCache
from jaxrecipes.files import new_folder, write_bytes
from jaxrecipes.locks import InUseError, alone_in, in_turn
from jaxrecipes.runs.train import train
from jaxrecipes.temporary import replacing, sweep
from jaxrecipes.train.config import RunConfig

_WRITER = """
import pathlib, sys, time
from jaxrecipes.temporary import replacing
with replacing(pathlib.Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    print("written", flush=True)
    time.sleep(100)
"""
_HOLDER = """
import pathlib, sys, time
from jaxrecipes.locks import alone_in
with alone_in(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100)
"""


@pytest.fixture
def start():
    processes = []

    def start(program, path):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        process.stdout.readline()
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_temporary_file_of_a_live_process_stays_and_of_a_dead_one_goes(tmp_path, start):
    writer = start(_WRITER, tmp_path / "pixels")
    (name,) = names(tmp_path)
    assert f"-{writer.pid}-" in name
    sweep(tmp_path)
    assert names(tmp_path) == [name]
    kill(writer)
    write_bytes(tmp_path / "other", b"x")
    assert names(tmp_path) == ["other"]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    with replacing(tmp_path / "a") as first, replacing(tmp_path / "a") as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert (tmp_path / "a").read_bytes() == b"first"
    assert names(tmp_path) == ["a"]


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    write_bytes(tmp_path / "a", b"old")

    def fail():
        with replacing(tmp_path / "a") as temporary:
            temporary.write_bytes(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_second_process_is_told_who_holds_a_folder(tmp_path, start):
    holder = start(_HOLDER, tmp_path)
    with pytest.raises(InUseError, match=rf"in use by process {holder.pid} on .* since 20"):
        alone_in(tmp_path).__enter__()
    with pytest.raises(InUseError, match="in use by process"):
        train(None, RunConfig(), tmp_path)  # before anything is read or logged
    kill(holder)
    with alone_in(tmp_path), alone_in(tmp_path):
        assert json.loads((tmp_path / ".in_use.json").read_text())["process"] == os.getpid()
    with alone_in(tmp_path):
        pass
    assert names(tmp_path) == [".in_use"]


def test_whoever_waits_for_a_cache_finds_what_was_made(tmp_path):
    cache, made = ImageCache(tmp_path, "key", (2, 2)), []

    def make():
        made.append(1)
        yield np.ones((3, 2, 2, 3), np.uint8), []

    def make_while_another_has():
        pytest.fail("decoded twice")
        yield

    entry, was_there = cache.read_or_write(3, make)
    assert not was_there
    again, was_there = cache.read_or_write(3, make_while_another_has)
    assert was_there
    np.testing.assert_array_equal(entry.images, again.images)
    assert names(tmp_path) == ["key.json", "key.pixels"]


_DECODER = """
import pathlib, sys, time
import numpy as np
from jaxrecipes.data.image_cache import ImageCache

def chunks():
    yield np.ones((3, 2, 2, 3), np.uint8), []
    print("half", flush=True)
    time.sleep(100)

ImageCache(pathlib.Path(sys.argv[1]), "other", (2, 2)).read_or_write(6, chunks)
"""


def test_what_a_process_killed_in_decoding_leaves_goes_with_the_next_use_of_the_cache(
    tmp_path, start
):
    cache = ImageCache(tmp_path, "key", (2, 2))
    cache.write([(np.ones((3, 2, 2, 3), np.uint8), [])])
    kill(start(_DECODER, tmp_path))
    assert len(names(tmp_path)) == 4  # its pixels, and its turn
    _, was_there = cache.read_or_write(3, lambda: pytest.fail("decoded again"))
    assert was_there
    assert names(tmp_path) == ["key.json", "key.pixels"]


def test_a_lock_in_turn_waits_for_the_other_process(tmp_path):
    program = f"""
import pathlib, time
from jaxrecipes.locks import in_turn
with in_turn(pathlib.Path({str(tmp_path / "x")!r})):
    print("held", flush=True)
    time.sleep(0.5)
    pathlib.Path({str(tmp_path / "done")!r}).touch()
"""
    other = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    other.stdout.readline()
    started = time.monotonic()
    with in_turn(tmp_path / "x"):
        assert (tmp_path / "done").exists()
    assert time.monotonic() - started < 60
    other.communicate()
    assert names(tmp_path) == ["done"]


def test_folders_named_in_the_same_second_differ(tmp_path):
    folders = [new_folder(tmp_path / "runs", "ocec") for _ in range(4)]
    assert len(set(folders)) == 4
    assert all(folder.is_dir() for folder in folders)
