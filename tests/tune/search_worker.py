"""Runs a toy search and kills its own process after some epochs: `search_worker.py DIR EPOCHS`."""

import os
import pathlib
import signal
import sys

sys.path.append(str(pathlib.Path(__file__).parents[1] / "train"))

from toy_search import toy_search

from jaxrecipes.train import loop

end_epoch, epochs = loop.Run._end_epoch, iter(range(1, 100))


def then_die(self, *arguments):
    end_epoch(self, *arguments)
    if next(epochs) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)


loop.Run._end_epoch = then_die
toy_search(pathlib.Path(sys.argv[1])).run(4)
