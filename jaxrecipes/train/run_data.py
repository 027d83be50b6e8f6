"""The data of a run as the loop sees it."""

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxrecipes.data.fingerprint import Fingerprint
from jaxrecipes.data.indexed import Arrays
from jaxrecipes.train.feed import Feed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """A split that is evaluated: its feed, its batch size, and the host arrays (labels ...) of its
    examples in order.
    """

    feed: Feed
    batch_size: int
    arrays: Arrays


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunData:
    """The data of a run.

    Attributes:
      train: feed of the training steps.
      train_batch: `step -> batch` on the host, to dump the batch that broke a run.
      steps_per_epoch, examples_per_step: the length of an epoch and of a step.
      val, test: splits that are evaluated, or None.
      fingerprint: of all splits; what a run that goes on must find again.
    """

    train: Feed
    train_batch: Callable[[int], dict[str, np.ndarray]]
    steps_per_epoch: int
    examples_per_step: int
    fingerprint: Fingerprint
    val: Split | None = None
    test: Split | None = None
