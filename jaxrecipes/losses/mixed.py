"""The loss of images that Mixup or CutMix combined from two."""

from collections.abc import Callable

import jax

Array = jax.Array


def mixed_loss(
    loss_fn: Callable[[Array, Array], Array],
    logits: Array,
    labels: Array,
    labels_mixed: Array,
    mix_lambda: Array,
) -> Array:
    """`mix_lambda * loss_fn(logits, labels) + (1 - mix_lambda) * loss_fn(logits, labels_mixed)`.

    For losses that are linear in the label (cross entropy) this equals mixing the labels; for the
    others (focal) it is the definition.

    Args:
      loss_fn: `(logits, labels) -> [B]` per-example losses.
      logits: what `loss_fn` takes.
      labels: `[B]`, of the image itself.
      labels_mixed: `[B]`, of the partner.
      mix_lambda: `[B]` (or a scalar) in [0, 1], the share of the image itself.

    Returns:
      `[B]`, not reduced.
    """
    own, partner = loss_fn(logits, labels), loss_fn(logits, labels_mixed)
    return mix_lambda * own + (1.0 - mix_lambda) * partner
