"""Which numbers of a tree are NaN or infinite."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_floating(leaf: Any) -> bool:
    """Whether an array holds floating-point numbers; false for counters and PRNG keys."""
    return bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def first_nonfinite(tree: Any) -> str | None:
    """The path of the first array that holds a NaN or an infinity, keys joined by "/"; None if all
    numbers are finite.

    Waits for the arrays. All processes get the same answer for arrays that they share.

    Args:
      tree: jax or numpy arrays.
    """
    leaves = [
        (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if is_floating(leaf)
    ]
    finite = jax.device_get([_all_finite(leaf) for _, leaf in leaves])
    return next((path for (path, _), good in zip(leaves, finite, strict=True) if not good), None)


def _all_finite(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array) and not _in_host_memory(leaf):
        return _all_finite_on_device(leaf)
    return np.isfinite(np.asarray(leaf)).all()


def _in_host_memory(leaf: jax.Array) -> bool:
    return leaf.is_fully_addressable and all(d.platform == "cpu" for d in leaf.devices())


@jax.jit
def _all_finite_on_device(leaf: jax.Array) -> jax.Array:
    return jnp.isfinite(leaf).all()
