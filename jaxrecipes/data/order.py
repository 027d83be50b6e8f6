"""Which examples make up batch i, as a function of (seed, i) alone."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np


class TrainingOrder(Protocol):
    """Which examples each training step sees."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches in a pass over the data."""

    def indices(self, step: int) -> np.ndarray:
        """`[batch_size]` int32: the examples of batch `step`, counted over all epochs."""


class BatchOrder:
    """The order of training: a new permutation in every epoch, or weighted draws with replacement.

    An epoch's order comes from (seed, epoch) through a bit generator whose stream numpy guarantees,
    so it depends neither on the numpy version nor on the number of workers or processes. The last
    incomplete batch of an epoch is dropped.
    """

    def __init__(
        self, num_examples: int, batch_size: int, seed: int, *, weights: np.ndarray | None = None
    ):
        """Checks the sizes.

        Args:
          num_examples: size of the data.
          batch_size: global batch size.
          seed: of the order, not negative.
          weights: `[num_examples]` relative probabilities, not negative, not all zero: an epoch
            then consists of `num_examples` draws with replacement.

        Raises:
          ValueError: the batch is larger than the data, a size is below 1, the seed is negative, or
            the weights are not valid.
        """
        check_batch_fits(num_examples, batch_size)
        if seed < 0:
            raise ValueError(f"the data seed is {seed}; it must be 0 or more")
        self.num_examples = num_examples
        self.batch_size = batch_size
        self.seed = seed
        self._chances = None if weights is None else _cumulative_chances(weights, num_examples)
        self._epochs: dict[int, np.ndarray] = {}

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self.num_examples // self.batch_size

    def epoch_indices(self, epoch: int) -> np.ndarray:
        """`[num_examples]` int32: the order of one epoch (from 0). The last two are kept."""
        indices = self._epochs.get(epoch)
        if indices is None:
            indices = self._draw(epoch)
            indices.flags.writeable = False
            # A single assignment: if threads race, they only draw the same epoch twice.
            self._epochs = dict([*self._epochs.items(), (epoch, indices)][-2:])
        return indices

    def indices(self, step: int) -> np.ndarray:
        """`[batch_size]` int32: the examples of batch `step`, counted over all epochs."""
        epoch, position = divmod(step, self.steps_per_epoch)
        start = position * self.batch_size
        return self.epoch_indices(epoch)[start : start + self.batch_size]

    def _draw(self, epoch: int) -> np.ndarray:
        bits = np.random.Philox(np.random.SeedSequence([self.seed, epoch]))
        raw = bits.random_raw(self.num_examples)
        if self._chances is None:
            return np.argsort(raw, kind="stable").astype(np.int32)
        uniform = (raw >> np.uint64(11)) * 2.0**-53
        return np.searchsorted(self._chances, uniform, side="right").astype(np.int32)


def check_batch_fits(num_examples: int, batch_size: int) -> None:
    """Raises a ValueError if not even one batch can be filled, or a size is below 1."""
    if batch_size < 1 or num_examples < 1:
        raise ValueError(
            f"batch size {batch_size} and {num_examples} examples: both must be 1 or more"
        )
    if batch_size > num_examples:
        raise ValueError(
            f"the batch size {batch_size} is larger than the {num_examples} training examples; "
            f"set it to {num_examples} or less, or bring more data"
        )


def evaluation_batches(
    num_examples: int, batch_size: int, *, rows: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The examples `rows` `[n]` (by default all, in order) in batches of equal size.

    Yields:
      `indices` `[batch_size]` int32 and `mask` `[batch_size]` float32 (1 = a real example). The
      last batch is padded with example 0, masked out.
    """
    rows = np.arange(num_examples) if rows is None else rows
    for start in range(0, len(rows), batch_size):
        chosen = rows[start : start + batch_size].astype(np.int32)
        padding = (0, batch_size - len(chosen))
        yield np.pad(chosen, padding), np.pad(np.ones(len(chosen), np.float32), padding)


def _cumulative_chances(weights: np.ndarray, num_examples: int) -> np.ndarray:
    weights = np.asarray(weights, np.float64)
    if weights.shape != (num_examples,):
        raise ValueError(f"weights have shape {weights.shape}, expected ({num_examples},)")
    if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() <= 0:
        raise ValueError("weights must be finite, not negative, and not all zero")
    cumulative = np.cumsum(weights)
    cumulative /= cumulative[-1]
    # Rounding must leave no gap at the end, nor give it to examples of weight 0.
    cumulative[np.flatnonzero(weights)[-1] :] = 1.0
    return cumulative
