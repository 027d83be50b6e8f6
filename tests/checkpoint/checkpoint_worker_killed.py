"""Kills its own children, each at a given moment of its second save: [DIRECTORY MOMENT] ...

They are forked once everything is imported, and before anything is computed.
"""

import os
import pathlib
import shutil
import signal
import sys
import threading
from types import SimpleNamespace

from checkpoint_trees import filled

from jaxrecipes.checkpoint import CheckpointManager, arrays, folder


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def then_die(function):
    return lambda *args, **kwargs: (function(*args, **kwargs), die())


def renames(count):
    """The real rename, `count` times."""
    rename, left = pathlib.Path.rename, [count]

    def limited(path, target):
        left[0] -= 1
        return rename(path, target) if left[0] >= 0 else die()

    return limited


def die_when_files_appear(directory):
    before = count_files(directory)
    while count_files(directory) == before:
        pass
    die()


def count_files(directory):
    return sum(len(files) for _, _, files in os.walk(directory))


def die_at(moment, directory):
    """Has this process killed at the moment."""
    match moment:
        case "before the arrays":
            arrays.save = die
        case "before the arrays are written":
            arrays.save = lambda path, tree: (SimpleNamespace(result=die), [])
        case "while the arrays are written":
            threading.Thread(target=die_when_files_appear, args=(directory,)).start()
        case "before the index":
            arrays._show_in_step_folder = die
        case "before the manifest":
            folder.seal = die
        case "before the commit" | "before the exchange":
            folder.commit = die
        case "within the exchange":
            orbax_save = arrays._OnHost.result
            arrays._OnHost.result = lambda self: (
                orbax_save(self),
                setattr(pathlib.Path, "rename", renames(1)),
            )
        case "after the commit" | "after the exchange":
            folder.commit = then_die(folder.commit)
        case "before the old one is deleted":
            folder.remove = die
        case "while the old one is deleted":
            shutil.rmtree = die


def save_twice(directory, moment):
    manager = CheckpointManager(directory, keep_latest=1)
    manager.save(1, filled(1), metadata={"step": 1})
    manager.wait()
    die_at(moment, directory)
    step = 1 if "exchange" in moment else 2
    manager.save(step, filled(2), metadata={"step": 2}, replace=True)
    manager.wait()


for case in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    child = os.fork()
    if child == 0:
        try:
            save_twice(*case)
        finally:
            os._exit(1)  # it should be dead by now
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
        sys.exit(f"not killed {case[1]}")
