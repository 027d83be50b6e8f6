"""The terms of the universal face loss, per example and in float32.

`projected` is the identity code, mapped back to the size of the embeddings by the loss projection.
"""

import jax
import jax.numpy as jnp

from jaxrecipes.losses.similarity import cosine_loss, cosine_similarity, mean_squared_error, unit

Array = jax.Array


def id_similarity(projected: Array, target: Array) -> Array:
    """`1 - cosine` of the projected identity code `[B, D]` and the frontal embedding: `[B]`."""
    return cosine_loss(projected, target)


def reconstruction(projected: Array, target: Array) -> Array:
    """Mean squared difference of projected identity code `[B, D]` and frontal embedding: `[B]`."""
    return mean_squared_error(projected, target)


def similarity_protection(
    base_features: Array, projected: Array, target: Array, *, margin: Array | float
) -> Array:
    """How much less similar to the target the identity code is than the features it was made from.

    `relu(cos(base, target) - cos(projected, target) - margin)`. The gradient includes the base
    features, as in the original: making them less similar to the target lowers the loss, too.

    Args:
      base_features: `[B, D]`, the enhanced features.
      projected: `[B, D]`.
      target: `[B, D]`.
      margin: the loss of similarity that is tolerated; may be traced.

    Returns:
      `[B]`, not reduced.

    Raises:
      ValueError: the shapes differ.
    """
    before = cosine_similarity(base_features, target, eps=1e-12)
    return jax.nn.relu(before - cosine_similarity(projected, target, eps=1e-12) - margin)


def pose_l1(pred: Array, pose: Array) -> Array:
    """Mean absolute error of the estimated pose: `[B, 3]` and `[B, 3]`, degrees -> `[B]`."""
    if pred.shape != pose.shape:
        raise ValueError(
            f"expected an estimate with the shape of the poses, {pose.shape}, got {pred.shape}"
        )
    return jnp.mean(jnp.abs(pred.astype(jnp.float32) - pose.astype(jnp.float32)), axis=-1)


def pose_bin(angle: Array, num_bins: int) -> Array:
    """`trunc(clip((angle + 90) / 180, 0, 1) * (num_bins - 1))`: int32 in [0, num_bins).

    Args:
      angle: any shape, degrees.
      num_bins: at least 1. The last bin holds only angles of 90 degrees and more.
    """
    fraction = jnp.clip((angle.astype(jnp.float32) + 90.0) / 180.0, 0.0, 1.0)
    return (fraction * (num_bins - 1)).astype(jnp.int32)


def pose_consistency(
    pose_features: Array,
    prototypes: Array,
    pose: Array,
    *,
    yaw_index: int = 0,
    temperature: Array | float = 0.1,
) -> Array:
    """Cross entropy of the pose code's similarity to each prototype against the bin of its angle.

    Args:
      pose_features: `[B, P]`, of any length.
      prototypes: `[K, P]`, of any length.
      pose: `[B, 3]` degrees.
      yaw_index: the entry of the pose that is binned; the original's is the first.
      temperature: divides the cosines; may be traced.

    Returns:
      `[B]`, not reduced.

    Raises:
      ValueError: the code and the prototypes differ in width.
    """
    if pose_features.shape[-1] != prototypes.shape[-1]:
        widths = f"{pose_features.shape} and {prototypes.shape}"
        raise ValueError(f"expected pose codes and prototypes of equal width, got {widths}")
    logits = unit(pose_features) @ unit(prototypes).T / temperature
    bins = pose_bin(pose[:, yaw_index], prototypes.shape[0])
    log_p = jax.nn.log_softmax(logits, axis=-1)
    return -jnp.take_along_axis(log_p, bins[:, None], axis=-1)[:, 0]


def orthogonality(id_kernel: Array, pose_kernel: Array) -> Array:
    """0.01 times the Frobenius norm of the cosines between the two kernels' columns.

    Args:
      id_kernel: `[D, I]`, each column one direction of the identity code.
      pose_kernel: `[D, P]`.

    Returns:
      A float32 scalar. Its gradient at an exact 0 is 0.

    Raises:
      ValueError: the kernels differ in their first axis.
    """
    if id_kernel.shape[0] != pose_kernel.shape[0]:
        shapes = f"{id_kernel.shape} and {pose_kernel.shape}"
        raise ValueError(f"expected kernels [D, I] and [D, P] with equal D, got {shapes}")
    cosines = unit(id_kernel, axis=0).T @ unit(pose_kernel, axis=0)
    square = jnp.sum(cosines * cosines)
    some = square > 0
    return 0.01 * jnp.where(some, jnp.sqrt(jnp.where(some, square, 1.0)), 0.0)
