"""Kills itself at a given moment of its second save: DIRECTORY MOMENT."""

import os
import shutil
import signal
import sys

from checkpoint_trees import filled

from jaxrecipes.checkpoint import CheckpointManager, arrays, folder

directory, moment = sys.argv[1:]
manager = CheckpointManager(directory, keep_latest=1)
manager.save(1, filled(1), metadata={"step": 1})
manager.wait()


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def then_die(function):
    return lambda *args, **kwargs: (function(*args, **kwargs), die())


match moment:
    case "before the arrays":
        arrays.save = die
    case "while arrays are written":
        arrays.save = then_die(arrays.save)
    case "before the manifest":
        folder.seal = die
    case "before the commit":
        folder.commit = die
    case "after the commit":
        folder.commit = then_die(folder.commit)
    case "before the old one is deleted":
        shutil.rmtree = die
manager.save(2, filled(2), metadata={"step": 2})
manager.wait()
