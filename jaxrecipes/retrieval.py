"""Rank-1 identification and verification with embeddings, on host arrays.

Embeddings are compared by cosine, one block of queries at a time, so memory does not grow with the
number of pairs.
"""

from collections.abc import Iterator

import numpy as np

_BLOCK = 1 << 22  # scores at once


def rank_one(
    queries: np.ndarray,
    query_labels: np.ndarray,
    gallery: np.ndarray,
    gallery_labels: np.ndarray,
) -> float:
    """The share of queries whose nearest gallery row has their label.

    If several rows are equally near, a query counts by the share of them that have its label.

    Args:
      queries: `[Q, D]`.
      query_labels: `[Q]` integers.
      gallery: `[G, D]`.
      gallery_labels: `[G]`; a query whose label does not occur here counts as not found.

    Returns:
      A number in [0, 1]; NaN without queries or gallery.

    Raises:
      ValueError: the shapes do not fit, or a number is not finite.
    """
    queries, query_labels = _checked(queries, query_labels, "queries")
    gallery, gallery_labels = _checked(gallery, gallery_labels, "gallery")
    if not len(queries) or not len(gallery):
        return float("nan")
    found = 0.0
    for rows, scores in _blocks(queries, gallery):
        best = scores == scores.max(axis=1, keepdims=True)
        right = best & (query_labels[rows, None] == gallery_labels)
        found += float(np.sum(right.sum(axis=1) / best.sum(axis=1)))
    return found / len(queries)


def verification_auc(
    queries: np.ndarray,
    query_labels: np.ndarray,
    gallery: np.ndarray | None = None,
    gallery_labels: np.ndarray | None = None,
) -> float:
    """The probability that a pair with equal labels is more similar than a pair with different
    labels; ties count half.

    This is the area under the ROC curve of the cosines of all pairs, as exact as `metrics.roc_auc`,
    which would need all pairs in memory.

    Args:
      queries: `[Q, D]`.
      query_labels: `[Q]` integers.
      gallery: `[G, D]`: each query is paired with each row. None: all pairs of two queries.
      gallery_labels: `[G]`, with `gallery`.

    Returns:
      A number in [0, 1]; NaN if all pairs are of one kind.

    Raises:
      ValueError: the shapes do not fit, a number is not finite, or only one of gallery and its
        labels is given.
    """
    if (gallery is None) != (gallery_labels is None):
        raise ValueError("expected gallery and gallery_labels together, or neither")
    queries, query_labels = _checked(queries, query_labels, "queries")
    if gallery is None or gallery_labels is None:
        others, labels = queries, query_labels
    else:
        others, labels = _checked(gallery, gallery_labels, "gallery")

    def pairs(same_label: bool) -> Iterator[np.ndarray]:
        for rows, scores in _blocks(queries, others):
            chosen = (query_labels[rows, None] == labels) == same_label
            if gallery is None:
                chosen &= np.arange(rows.start, rows.stop)[:, None] < np.arange(len(labels))
            yield scores[chosen]

    # Two passes over all pairs: those with equal labels are few and are kept.
    same = np.sort(np.concatenate([np.zeros(0, np.float32), *pairs(True)]))
    twice_won = num_different = 0
    for different in pairs(False):
        different.sort()
        lower, upto = (np.searchsorted(different, same, side=side) for side in ("left", "right"))
        twice_won += int(lower.sum()) + int(upto.sum())
        num_different += len(different)
    num_pairs = len(same) * num_different
    return twice_won / (2 * num_pairs) if num_pairs else float("nan")


def _blocks(queries: np.ndarray, gallery: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Queries' rows, and their cosines `[rows, G]` float32."""
    step = max(1, _BLOCK // max(1, len(gallery)))
    for start in range(0, len(queries), step):
        rows = slice(start, min(start + step, len(queries)))
        yield rows, queries[rows] @ gallery.T


def _checked(features: np.ndarray, labels: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features of unit length (zero vectors stay zero) and their labels."""
    features, labels = np.asarray(features, np.float32), np.asarray(labels)
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(
            f"expected {name} [N, D] and their labels [N], got {features.shape} and {labels.shape}"
        )
    if not np.isfinite(features).all():
        raise ValueError(f"{name} hold numbers that are not finite")
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(norm > 0, norm, 1.0), labels
