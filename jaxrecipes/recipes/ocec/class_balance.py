"""Weights that compensate for unequal classes."""

import warnings

import numpy as np


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
