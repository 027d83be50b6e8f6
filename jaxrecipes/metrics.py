"""Streaming metrics: small pytrees of sums and counts that merge across batches and devices.

Each has `empty()`, a constructor from one batch, `merge(other)` (or `+`) and `compute()`. The
curves at the end of this file need all scores at once and work on host arrays.
"""

import dataclasses
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mean:
    """A weighted mean.

    Attributes:
      sum: float32 scalar.
      count: float32 scalar, the examples (sum of the mask); exact up to 2^24.
    """

    sum: Array
    count: Array

    @classmethod
    def empty(cls) -> Self:
        return cls(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32))

    @classmethod
    def from_values(cls, values: Array, mask: Array | None = None) -> Self:
        """The mean of `values` (any shape) where `mask` (same shape, 1 = keep) is 1; elsewhere NaN
        does no harm.
        """
        values = jnp.asarray(values, jnp.float32)
        mask = jnp.ones_like(values) if mask is None else jnp.asarray(mask, jnp.float32)
        if mask.shape != values.shape:
            raise ValueError(
                f"expected a mask with the values' shape {values.shape}, got {mask.shape}"
            )
        return cls(jnp.where(mask > 0, values * mask, 0.0).sum(), mask.sum())

    def merge(self, other: Self) -> Self:
        return jax.tree.map(jnp.add, self, other)

    __add__ = merge

    def compute(self) -> Array:
        """float32 scalar; NaN when nothing was counted."""
        return self.sum / self.count


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BinaryCounts:
    """The confusion matrix of a binary classifier; class 1 is positive. int32 scalars."""

    tp: Array
    tn: Array
    fp: Array
    fn: Array

    @classmethod
    def empty(cls) -> Self:
        return cls(*(jnp.zeros((), jnp.int32) for _ in range(4)))

    @classmethod
    def from_probs(cls, probs: Array, labels: Array, mask: Array | None = None) -> Self:
        """Counts one batch.

        Args:
          probs: `[B]` probabilities of class 1; 0.5 and above counts as positive. So the logit 0 is
            positive, and so is a tiny negative logit whose float32 sigmoid is exactly 0.5.
          labels: `[B]`, 0 or 1.
          mask: `[B]`, 1 = keep.

        Raises:
          ValueError: the shapes differ.
        """
        # Compared before JAX converts them: float64 scores from the host could be rounded up to
        # 0.5.
        positive, true = jnp.asarray(probs >= 0.5), jnp.asarray(labels == 1)
        keep = jnp.ones(true.shape, bool) if mask is None else jnp.asarray(mask > 0)
        if not positive.shape == true.shape == keep.shape:
            shapes = f"{positive.shape}, {true.shape} and {keep.shape}"
            raise ValueError(f"expected probs, labels and mask of equal shapes, got {shapes}")

        def count(where: Array) -> Array:
            return jnp.sum(where & keep, dtype=jnp.int32)

        return cls(
            tp=count(positive & true),
            tn=count(~positive & ~true),
            fp=count(positive & ~true),
            fn=count(~positive & true),
        )

    def merge(self, other: Self) -> Self:
        return jax.tree.map(jnp.add, self, other)

    __add__ = merge

    def compute(self) -> dict[str, Array]:
        """accuracy, precision, recall and f1 as float32 scalars; 0 where undefined."""
        return {
            "accuracy": _ratio(self.tp + self.tn, self.tp + self.tn + self.fp + self.fn),
            "precision": _ratio(self.tp, self.tp + self.fp),
            "recall": _ratio(self.tp, self.tp + self.fn),
            "f1": _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn),
        }

    def confusion(self) -> Array:
        """`[2, 2]` int32, rows true, columns predicted: [[tn, fp], [fn, tp]]."""
        return jnp.array([[self.tn, self.fp], [self.fn, self.tp]], jnp.int32)


def roc_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False and true positive rate at every distinct score.

    Args:
      labels: `[N]`, 0 or 1.
      scores: `[N]`, higher = more likely class 1; equal scores form one step of the curve.

    Returns:
      fpr, tpr and thresholds, `[T]` float64 each, from (0, 0) at an infinite threshold to (1, 1). A
      rate is NaN if its class is missing.

    Source: scikit-learn's roc_curve(drop_intermediate=False).
    """
    true, false, thresholds = _cumulative_counts(labels, scores)
    true, false = np.append(0.0, true), np.append(0.0, false)
    with np.errstate(invalid="ignore"):
        return false / false[-1:], true / true[-1:], np.append(np.inf, thresholds)


def roc_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """The area under `roc_curve`, ties counted half; NaN when a class is missing."""
    fpr, tpr, _ = roc_curve(labels, scores)
    return float(np.trapezoid(tpr, fpr))


def precision_recall_curve(
    labels: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision and recall at every distinct score.

    Args:
      labels: `[N]`, 0 or 1.
      scores: `[N]`, higher = more likely class 1.

    Returns:
      precision `[T + 1]`, recall `[T + 1]` and thresholds `[T]`, float64, thresholds rising; the
      last point is (1, 0). Recall is NaN without positives.

    Source: scikit-learn's precision_recall_curve, except for NaN where that returns 1.
    """
    true, false, thresholds = _cumulative_counts(labels, scores)
    with np.errstate(invalid="ignore"):
        precision, recall = true / (true + false), true / true[-1:]
    return np.append(precision[::-1], 1.0), np.append(recall[::-1], 0.0), thresholds[::-1]


def _cumulative_counts(
    labels: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positives and negatives with a score of at least each distinct score, highest first."""
    labels, scores = np.asarray(labels) == 1, np.asarray(scores, np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(f"expected labels and scores [N], got {labels.shape} and {scores.shape}")
    if np.isnan(scores).any():
        raise ValueError(
            f"{np.isnan(scores).sum()} of {scores.size} scores are NaN; none may be NaN"
        )
    thresholds, group = np.unique(-scores, return_inverse=True)
    true = np.bincount(group, weights=labels, minlength=thresholds.size)
    false = np.bincount(group, weights=~labels, minlength=thresholds.size)
    return true.cumsum(), false.cumsum(), -thresholds


def _ratio(numerator: Array, denominator: Array) -> Array:
    return numerator.astype(jnp.float32) / jnp.maximum(denominator, 1).astype(jnp.float32)
