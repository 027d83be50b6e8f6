"""Reads on 8 devices what one saved, and saves for one to read: FROM_ONE TO_ONE."""

import sys

import jax
from checkpoint_trees import SPECS, assert_equal, device_tree
from jax.sharding import PartitionSpec as P

from jaxrecipes.checkpoint import CheckpointManager

from_one, to_one = sys.argv[1:]
assert jax.device_count() == 8
tree = device_tree()
assert_equal(CheckpointManager(from_one).restore(tree).tree, tree)
other = device_tree(
    {**SPECS, "large": P(None, "data"), "small": P(), "bias": P("data"), "whole": P("data")}
)
abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), other
)
with CheckpointManager(to_one) as manager:
    manager.save(3, tree)
    assert_equal(manager.restore(abstract).tree, other)
