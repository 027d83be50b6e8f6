"""Runs a toy search and kills its own process after some epochs:
`search_worker.py DIR EPOCHS [population]`."""

import os
import pathlib
import signal
import sys

sys.path.append(str(pathlib.Path(__file__).parents[1] / "train"))

from toy_search import toy_search

from jaxrecipes.train import fit
from jaxrecipes.train.outcome import end_epoch

epochs = iter(range(1, 100))


def then_die(*arguments):
    position = end_epoch(*arguments)
    if next(epochs) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return position


fit.end_epoch = then_die
if sys.argv[3:]:
    options = {"sampler": "tpe", "pruner": "asha", "together": {"population": 3}}
    toy_search(pathlib.Path(sys.argv[1]), **options).run(8)
else:
    toy_search(pathlib.Path(sys.argv[1])).run(4)
