"""A triplet loss whose triplets are chosen by angle: the positive is the most different view."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrecipes.losses.similarity import cosine_similarity, unit

Array = jax.Array


class Triplets(NamedTuple):
    """The triplet of each row as anchor: `[B]` row numbers, and whether there is such a triplet at
    all.
    """

    positive: Array
    negative: Array
    valid: Array
    weight: Array


def angle_triplets(
    features: Array,
    labels: Array,
    angles: Array,
    *,
    mask: Array | None = None,
    alpha: Array | float = 2.0,
    beta: Array | float = 1.5,
    angle_threshold: Array | float = 30.0,
    far_angle: Array | float = 45.0,
    near_angle: Array | float = 15.0,
) -> Triplets:
    """The triplet of each row.

    Positive: the row of the same label that is farthest in angle. Negative: among the rows of other
      labels within `angle_threshold`, the one with the highest cosine; if there is none, the one
      nearest in angle. Angles are compared as plain vectors, without wrap-around; ties go to the
      first row.

    Args:
      features: `[B, D]`; no gradient flows through the selection.
      labels: `[B]` integers.
      angles: `[B, A]` degrees.
      mask: `[B]`, 1 = keep; other rows are ignored.
      alpha: factor of the weight if the positive is farther away than `far_angle`.
      beta: factor of the weight if the negative is nearer than `near_angle`.
      angle_threshold: degrees.
      far_angle: degrees.
      near_angle: degrees.

    Returns:
      `Triplets`; the weight of a row without a triplet is 0.

    Raises:
      ValueError: the shapes do not fit.
    """
    rows = labels.shape[0]
    keep = jnp.ones(rows, bool) if mask is None else mask > 0
    if features.shape[:1] != labels.shape or angles.shape[:1] != labels.shape or keep.ndim != 1:
        shapes = f"{features.shape}, {labels.shape} and {angles.shape}"
        raise ValueError(f"expected features [B, D], labels [B] and angles [B, A], got {shapes}")
    angles = angles.astype(jnp.float32)
    apart = jnp.linalg.norm(angles[:, None] - angles[None], axis=-1)
    normal = unit(jax.lax.stop_gradient(features))
    cosine = jnp.matmul(normal, normal.T, precision=jax.lax.Precision.HIGHEST)

    same = labels[:, None] == labels[None]
    both = keep[:, None] & keep[None, :]
    friend, stranger = both & same & ~jnp.eye(rows, dtype=bool), both & ~same
    close = stranger & (apart <= angle_threshold)

    positive = jnp.argmax(jnp.where(friend, apart, -jnp.inf), axis=1).astype(jnp.int32)
    most_similar = jnp.argmax(jnp.where(close, cosine, -jnp.inf), axis=1)
    nearest = jnp.argmin(jnp.where(stranger, apart, jnp.inf), axis=1)
    negative = jnp.where(close.any(axis=1), most_similar, nearest).astype(jnp.int32)

    valid = friend.any(axis=1) & stranger.any(axis=1)
    to_positive = jnp.take_along_axis(apart, positive[:, None], axis=1)[:, 0]
    to_negative = jnp.take_along_axis(apart, negative[:, None], axis=1)[:, 0]
    weight = jnp.where(to_positive > far_angle, jnp.float32(alpha), 1.0)
    weight = weight * jnp.where(to_negative < near_angle, jnp.float32(beta), 1.0)
    return Triplets(positive, negative, valid, jnp.where(valid, weight, 0.0))


def angle_triplet(
    features: Array,
    labels: Array,
    angles: Array,
    *,
    features_original: Array | None = None,
    mask: Array | None = None,
    margin: Array | float = 0.2,
    original_weight: Array | float = 0.1,
    alpha: Array | float = 2.0,
    beta: Array | float = 1.5,
    angle_threshold: Array | float = 30.0,
) -> Array:
    """The mean over triplets of `weight * relu(to_positive - to_negative + margin)`.

    With `features_original`, it adds `original_weight` times the mean of `1 - cosine` between
    features and original features. If there is no triplet, the whole loss is 0, this part included.

    Args:
      features: `[B, D]`.
      labels: `[B]` integers.
      angles: `[B, A]` degrees.
      features_original: `[B, D]`, to which the features should stay close.
      mask: `[B]`, 1 = keep.
      margin: in units of the features' distance; may be traced, like all that follow.
      original_weight: see above.
      alpha: see `angle_triplets`.
      beta: see `angle_triplets`.
      angle_threshold: see `angle_triplets`.

    Returns:
      A float32 scalar.

    Raises:
      ValueError: the shapes do not fit.
    """
    features = features.astype(jnp.float32)
    chosen = angle_triplets(
        features,
        labels,
        angles,
        mask=mask,
        alpha=alpha,
        beta=beta,
        angle_threshold=angle_threshold,
    )
    to_positive = _distance(features, features[chosen.positive])
    to_negative = _distance(features, features[chosen.negative])
    hinge = chosen.weight * jax.nn.relu(to_positive - to_negative + margin)
    count = chosen.valid.sum(dtype=jnp.float32)
    loss = hinge.sum() / jnp.maximum(count, 1.0)
    if features_original is not None:
        keep = jnp.ones(labels.shape, jnp.float32) if mask is None else mask.astype(jnp.float32)
        moved = jnp.where(keep > 0, 1.0 - cosine_similarity(features, features_original), 0.0)
        mean = jnp.sum(moved * keep) / jnp.maximum(keep.sum(), 1.0)
        loss = loss + jnp.where(count > 0, original_weight * mean, 0.0)
    return loss


def _distance(x: Array, y: Array) -> Array:
    """Euclidean distance, with the offset of PyTorch's pairwise_distance, which avoids an undefined
    gradient.
    """
    return jnp.linalg.norm(x - y + 1e-6, axis=-1)
