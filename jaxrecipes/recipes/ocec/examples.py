"""Eye crops and their classes in memory."""

import dataclasses
import warnings

import numpy as np

from jaxrecipes.data.fingerprint import Identity


@dataclasses.dataclass(frozen=True)
class Eyes:
    """One split in order.

    Attributes:
      arrays: `image` uint8 `[N, H, W, 3]` and `label` int32 `[N]`.
      names: `[N]` paths, or made-up names of embedded eyes.
      sources: `[N]` the video or collection that each comes from.
      left_out: images that could not be read.
    """

    arrays: dict[str, np.ndarray]
    names: list[str]
    sources: list[str]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.names)

    @property
    def identity(self) -> Identity:
        """Paths and labels."""
        return {"name": self.names, "label": self.arrays["label"]}


def pos_weight(labels: np.ndarray) -> float:
    """Negatives / positives, the weight of class 1 in the loss; 1 when a class is missing."""
    positives = int(np.sum(labels))
    negatives = len(labels) - positives
    if positives == 0 or negatives == 0:
        warnings.warn("a class is missing from the labels; pos_weight is 1", stacklevel=2)
        return 1.0
    return negatives / positives


def sampling_weights(labels: np.ndarray) -> np.ndarray:
    """`[N]` float64, 1 / size of each example's class: the classes are drawn equally often."""
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return 1.0 / counts[inverse]
