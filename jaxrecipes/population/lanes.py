"""The states of several trials as one pytree with a leading axis, one lane for each trial."""

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Tree = TypeVar("Tree")


def stack(trees: Sequence[Tree]) -> Tree:
    """The trees of several trials (states, metric sums, items) as one, every leaf `[N, ...]`.

    Raises:
      ValueError: no tree, or one whose structure, shapes or dtypes are not those of the first;
        names the trial and the first leaf that differs.
    """
    if not trees:
        raise ValueError("a population has no members; expected at least one")
    for number, tree in enumerate(trees[1:], start=1):
        _check_alike(trees[0], tree, number)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


@jax.jit
def take(stacked: Tree, lane: jax.Array | int) -> Tree:
    """One lane as a tree of its own, equal in every bit to what `put` or `stack` stored."""
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, lane, 0, keepdims=False), stacked)


@partial(jax.jit, donate_argnums=0)
def put(stacked: Tree, lane: jax.Array | int, tree: Tree) -> Tree:
    """The lanes with `tree` in place of one of them; `stacked` is donated.

    So a trial that ended makes room for the next one without a compilation.
    """
    return jax.tree.map(
        lambda x, new: jax.lax.dynamic_update_index_in_dim(x, new, lane, 0), stacked, tree
    )


def _check_alike(first: Any, other: Any, number: int) -> None:
    ours, theirs = (dict(jax.tree_util.tree_leaves_with_path(tree)) for tree in (first, other))
    structures: list[Any] = [jax.tree.structure(first), jax.tree.structure(other)]
    if structures[0] != structures[1]:
        differing = sorted(map(jax.tree_util.keystr, ours.keys() ^ theirs.keys()))
        where = f": {differing[0]}" if differing else ""
        raise ValueError(
            f"member {number} has another structure than member 0{where}; members of a population "
            "may differ in numbers alone"
        )
    for path, leaf in ours.items():
        pair = [(np.shape(x), getattr(x, "dtype", None)) for x in (leaf, theirs[path])]
        if pair[0] != pair[1]:
            raise ValueError(
                f"member {number}: {jax.tree_util.keystr(path)} is {pair[1][1]}{list(pair[1][0])}, "
                f"that of member 0 {pair[0][1]}{list(pair[0][0])}; members of a population may "
                "differ in numbers alone"
            )
