"""Losses for binary classification from one logit (or two), per example."""

import jax
import jax.numpy as jnp

Array = jax.Array


def bce_with_logits(logits: Array, labels: Array, *, pos_weight: Array | float = 1.0) -> Array:
    """Binary cross entropy, `-(pos_weight * y * log p + (1 - y) * log(1 - p))`, p = sigmoid(logit).

    Finite, gradient included, for logits of any size.

    Args:
      logits: `[...]` floats.
      labels: `[...]` in [0, 1], integer or float, soft ones included.
      pos_weight: the weight of the positive class, usually negatives / positives of the training
        data; may be traced.

    Returns:
      `[...]` float32, not reduced.

    Raises:
      ValueError: the shapes differ.

    Source: torch.nn.functional.binary_cross_entropy_with_logits(reduction="none").
    """
    if logits.shape != labels.shape:
        raise ValueError(f"expected labels of the logits' shape {logits.shape}, got {labels.shape}")
    logits = logits.astype(jnp.float32)
    labels = labels.astype(jnp.float32)
    # Neither term can be negative, so nothing cancels, unlike in z - y * z + softplus(-z).
    return pos_weight * labels * jax.nn.softplus(-logits) + (1.0 - labels) * jax.nn.softplus(logits)


def focal_label_smooth_ce(
    logits: Array, labels: Array, *, smoothing: Array | float, gamma: Array | float
) -> Array:
    """Two-class cross entropy with smoothed targets, times `(1 - p_true) ** gamma`.

    The target is `1 - smoothing` for the true class and `smoothing` for the other, the logarithms
    are of p + 1e-7, and the gradient includes that of the focal factor. One logit z stands for the
    scores (-z, z), so that a model trained with this loss predicts class 1 with
    `prob_open_from_focal(z)`, sigmoid(2z).

    Args:
      logits: `[B]` or `[B, 1]` (one logit), or `[B, 2]` (scores of class 0 and class 1).
      labels: `[B]` integers (or floats) 0 or 1.
      smoothing: in [0, 1); may be traced.
      gamma: at least 0; may be traced. With 0 and no smoothing this is plain cross entropy.

    Returns:
      `[B]` float32, not reduced.

    Raises:
      ValueError: other shapes.

    Source: FocalLabelSmoothCE of the OCEC fork, except that float labels work; no class weights.
    """
    logits = logits.astype(jnp.float32)
    if logits.ndim == 2 and logits.shape[1] == 2:
        margin = logits[:, 1] - logits[:, 0]
    elif logits.ndim == 1 or (logits.ndim == 2 and logits.shape[1] == 1):
        margin = 2.0 * logits.reshape(-1)
    else:
        raise ValueError(f"expected logits [B], [B, 1] or [B, 2], got {logits.shape}")
    if labels.shape != margin.shape:
        raise ValueError(
            f"expected labels {margin.shape} for logits {logits.shape}, got {labels.shape}"
        )
    # For two classes the softmax is a sigmoid of the margin, and 1 - p_true is the other class's p.
    margin = jnp.where(labels == 1, margin, -margin)
    p_true, p_other = jax.nn.sigmoid(margin), jax.nn.sigmoid(-margin)
    ce = -(1.0 - smoothing) * jnp.log(p_true + 1e-7) - smoothing * jnp.log(p_other + 1e-7)
    # Kept above zero, because the gradient of 0 ** gamma is infinite for gamma below 1.
    return jnp.maximum(p_other, jnp.finfo(jnp.float32).tiny) ** gamma * ce


def prob_open(logits: Array) -> Array:
    """sigmoid(z): the probability of class 1 under a model trained with `bce_with_logits`."""
    return jax.nn.sigmoid(logits.astype(jnp.float32))


def prob_open_from_focal(logits: Array) -> Array:
    """sigmoid(2z): the same under a model with one logit trained with `focal_label_smooth_ce`."""
    return jax.nn.sigmoid(2.0 * logits.astype(jnp.float32))
