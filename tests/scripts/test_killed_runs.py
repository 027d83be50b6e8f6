"""Runs that are killed or interrupted end as an undisturbed one does, bit for bit."""

import os
import pathlib
import random
import signal
import subprocess
import time

from script_runs import assert_same_end, kill, read_json, start, wait_until


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


def interrupt(process: subprocess.Popen, number: signal.Signals, workdir: pathlib.Path) -> None:
    """The process saves and leaves on the signal, without a summary."""
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "and saved; the same command goes on from there" in err
    assert not (workdir / "summary.json").exists()


def test_a_run_killed_and_interrupted_again_and_again_ends_as_an_undisturbed_one(
    trained, tiny, script, tmp_path
):
    workdir = tmp_path / "run"
    arguments = ("train", *tiny, "--workdir", workdir)
    history, checkpoints = workdir / "history.json", workdir / "checkpoints"

    process = start(*arguments)
    kill_in_a_save(process, workdir)
    assert saves_under_way(workdir)

    process = start(*arguments)
    wait_until((checkpoints / "3").exists, process)
    interrupt(process, signal.SIGTERM, workdir)

    process = start(*arguments)  # in the middle of an epoch, after a save
    wait_until((checkpoints / "12").exists, process)
    kill(process)

    process = start(*arguments)  # an epoch has just ended
    wait_until(lambda: history.exists() and len(read_json(history)) >= 2, process)
    time.sleep(random.uniform(0, 0.05))
    kill(process)

    process = start(*arguments)
    wait_until((checkpoints / "18").exists, process)
    interrupt(process, signal.SIGINT, workdir)

    done = script(*arguments)
    assert done.code == 0, done.err
    assert "going on from step" in done.err
    assert not saves_under_way(workdir)
    assert_same_end(workdir, trained[0])
