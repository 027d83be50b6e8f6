"""Exponential moving averages of parameters and batch statistics, kept in float32."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrecipes.precision import is_floating

Array = jax.Array
PyTree = Any


def ema_init(tree: PyTree) -> PyTree:
    """A fresh average that starts at `tree`.

    Floating leaves are copied into float32 (never the same buffers, so that both trees of a donated
    state can be updated in place); other leaves are copied as they are.
    """

    def start(leaf: Array) -> Array:
        leaf = jnp.asarray(leaf)
        return jnp.array(leaf, jnp.float32 if is_floating(leaf) else leaf.dtype, copy=True)

    return jax.tree.map(start, tree)


def ema_decay_at(decay: Array | float, step: Array | int, *, warmup: bool) -> Array:
    """The decay to use at one step.

    Args:
      decay: in [0, 1], the share of the average that is kept at each update; may be traced.
      step: updates made before this one (0 at the first); may be traced.
      warmup: use min(decay, (1 + step) / (10 + step)), so that the random start does not stay in
        the average for the first thousands of steps. Most PyTorch recipes do without.

    Returns:
      float32 scalar.
    """
    decay = jnp.asarray(decay, jnp.float32)
    if not warmup:
        return decay
    step = jnp.asarray(step, jnp.float32)
    return jnp.minimum(decay, (1.0 + step) / (10.0 + step))


def ema_update(ema: PyTree, new: PyTree, decay: Array | float) -> PyTree:
    """One update: `decay * ema + (1 - decay) * new` in float32 for each floating leaf.

    Args:
      ema: what `ema_init` or an earlier update returned.
      new: a tree of the same structure, in any floating precision.
      decay: scalar in [0, 1]; may be traced.

    Returns:
      the new average; leaves that are not floating (counters) are taken from `new`.
    """
    decay = jnp.asarray(decay, jnp.float32)

    def update(shadow: Array, leaf: Array) -> Array:
        if not is_floating(leaf):
            return leaf
        return decay * shadow + (1.0 - decay) * leaf.astype(jnp.float32)

    return jax.tree.map(update, ema, new)
