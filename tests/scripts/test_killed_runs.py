"""Runs that are killed or interrupted end as an undisturbed one does, bit for bit."""

import os
import pathlib
import random
import signal
import subprocess
import time

from script_runs import assert_same_end, kill, read_json, run, start, wait_until


def saves_under_way(workdir: pathlib.Path) -> list[pathlib.Path]:
    return list((workdir / "checkpoints").glob(".saving-*"))


def kill_in_a_save(process: subprocess.Popen, workdir: pathlib.Path) -> None:
    """Freezes the process at a save, looks whether that is not over yet, and kills it."""
    while True:
        wait_until(lambda: bool(saves_under_way(workdir)), process)
        os.kill(process.pid, signal.SIGSTOP)
        if saves_under_way(workdir):
            kill(process)
            return
        os.kill(process.pid, signal.SIGCONT)


def test_a_run_killed_again_and_again_ends_as_an_undisturbed_one(trained, tiny, tmp_path):
    workdir = tmp_path / "run"
    arguments = ("train", *tiny, "--workdir", workdir)
    history = workdir / "history.json"

    process = start(*arguments)
    kill_in_a_save(process, workdir)
    assert saves_under_way(workdir)

    process = start(*arguments)  # in the middle of an epoch, after a save
    middle = workdir / "checkpoints" / "12"
    wait_until(middle.exists, process)
    kill(process)

    process = start(*arguments)  # an epoch has just ended
    wait_until(lambda: history.exists() and len(read_json(history)) >= 2, process)
    time.sleep(random.uniform(0, 0.05))
    kill(process)

    process = start(*arguments)
    kill_in_a_save(process, workdir)

    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stderr
    assert not saves_under_way(workdir)
    assert_same_end(workdir, trained[0])


def test_sigterm_and_ctrl_c_save_and_leave(trained, tiny, tmp_path):
    workdir = tmp_path / "run"
    arguments = ("train", *tiny, "--workdir", workdir)
    for number, step in ((signal.SIGTERM, "3"), (signal.SIGINT, "16")):
        process = start(*arguments)
        wait_until((workdir / "checkpoints" / step).exists, process)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert "and saved; the same command goes on from there" in err
        assert not (workdir / "summary.json").exists()
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert_same_end(workdir, trained[0])
