"""Rank-1 identification and verification with embeddings, on host arrays.

Embeddings are compared by cosine, a block of queries at a time; memory stays small however many
pairs there are.
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

    Where several rows are equally like, the share of them that have it.

    Args:
      queries: `[Q, D]`.
      query_labels: `[Q]` integers.
      gallery: `[G, D]`.
      gallery_labels: `[G]`; a query whose label is missing here counts as not found.

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
    """The chance that a pair of one label is more alike than a pair of two; ties count half.

    The area under the ROC curve of all pairs' cosines, exact as `metrics.roc_auc`, which would hold
    all pairs at once.

    Args:
      queries: `[Q, D]`.
      query_labels: `[Q]` integers.
      gallery: `[G, D]`: each query is paired with each row. None: each pair of two queries.
      gallery_labels: `[G]`, with `gallery`.

    Returns:
      A number in [0, 1]; NaN if all pairs are of one kind.

    Raises:
      ValueError: the shapes do not fit, a number is not finite, or one of gallery and its labels
        is missing.
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

    # Twice through all pairs: those of one label are few and kept.
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
        raise ValueError(f"{name} hold numbers that are not finite; none may be")
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(norm > 0, norm, 1.0), labels
