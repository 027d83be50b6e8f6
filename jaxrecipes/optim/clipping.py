"""Gradient clipping by the global norm, with PyTorch's rule."""

from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
PyTree = Any


def global_norm(tree: PyTree) -> Array:
    """The Euclidean norm over all leaves, a float32 scalar; an empty tree has norm 0."""
    squares = [jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, start=jnp.zeros((), jnp.float32)))


def clip_by_global_norm(
    grads: PyTree, max_norm: Array | float, *, norm: Array | None = None
) -> tuple[PyTree, Array]:
    """Multiplies all gradients by `min(1, max_norm / (norm + 1e-6))`.

    Args:
      grads: any tree of gradients; leave frozen parameters out, because all of it counts.
      max_norm: may be traced; infinity switches clipping off.
      norm: `global_norm(grads)`, if it is already known.

    Returns:
      the clipped tree, in the leaves' own types, and the norm before clipping, a float32 scalar.
      A non-finite norm makes the gradients non-finite, as in PyTorch; skip such steps.

    Source: torch.nn.utils.clip_grad_norm_.
    """
    norm = global_norm(grads) if norm is None else norm
    factor = jnp.minimum(1.0, max_norm / (norm + 1e-6)).astype(jnp.float32)
    return jax.tree.map(lambda leaf: (leaf * factor).astype(leaf.dtype), grads), norm
