"""Which rows are held out: scikit-learn's random splits, reproduced without scikit-learn."""

import math
from collections.abc import Sequence

import numpy as np


def split_rows(
    num_rows: int, *, test_size: float = 0.2, seed: int = 42
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows held out, int64, each in the order of scikit-learn.

    Equals `sklearn.model_selection.train_test_split(range(num_rows), test_size=test_size,
    random_state=seed)`.

    Args:
      num_rows: 2 or more.
      test_size: share that is held out, rounded up to whole rows.
      seed: of numpy's `RandomState`, whose stream never changes.

    Raises:
      ValueError: a share that is not between 0 and 1, or that leaves nothing to train on.
    """
    if not 0 < test_size < 1:
        raise ValueError(f"test_size is {test_size}; it must lie between 0 and 1")
    held_out = math.ceil(test_size * num_rows)
    if held_out >= num_rows:
        raise ValueError(
            f"test_size {test_size} of {num_rows} holds out {held_out} and leaves none to train on"
        )
    order = np.random.RandomState(seed).permutation(num_rows)
    return order[held_out:], order[:held_out]


def split_prompts(
    prompts: Sequence[str] | np.ndarray, *, test_size: float = 0.2, seed: int = 42
) -> tuple[np.ndarray, np.ndarray]:
    """The same, but all rows of a prompt stay together; `test_size` is a share of the prompts.

    Equals `sklearn.model_selection.GroupShuffleSplit` with prompts as groups; rows are in ascending
    order.

    Raises:
      ValueError: as `split_rows`, about the distinct prompts.
    """
    distinct, prompt = np.unique(np.asarray(prompts, dtype=str), return_inverse=True)
    if len(distinct) < 2:
        raise ValueError("a split by prompt needs 2 different prompts or more")
    _, held_out = split_rows(len(distinct), test_size=test_size, seed=seed)
    is_held_out = np.isin(prompt, held_out)
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
