"""The bytes of a run's state and data on each device, from shapes alone."""

import collections
import math
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import AbstractMesh

from jaxrecipes.optim import leaves_by_path
from jaxrecipes.sharding import state_shardings
from jaxrecipes.train.state import TrainState

PARTS = {"params": "parameters", "opt_state": "moments", "ema_params": "averages"}
OTHER = "other"


def bytes_by_module(state: TrainState, mesh: AbstractMesh) -> dict[str, dict[str, int]]:
    """Bytes on each device by module (the first two parts of a parameter's path), each split into
    `parameters`, `moments`, `averages` and `other` (batch statistics, counters).

    Args:
      state: its shapes.
      mesh: the devices, which the state is split over as in a run.
    """
    sizes: dict[str, Any] = leaves_by_path(
        jax.tree.map(_bytes, state.as_dict(), state_shardings(state, mesh).as_dict())
    )
    modules = {path: "/".join(path.split("/")[:2]) for path in leaves_by_path(state.params)}
    found: dict[str, dict[str, int]] = {}
    for path, size in sizes.items():
        field, *inner = path.split("/")
        suffixes = ["/".join(inner[i:]) for i in range(len(inner))]
        owner = next((modules[suffix] for suffix in suffixes if suffix in modules), "")
        part = PARTS.get(field, OTHER) if owner else OTHER
        counts = found.setdefault(owner or OTHER, collections.Counter())
        counts[part] += size
    return {module: dict(counts) for module, counts in sorted(found.items())}


def bytes_by_part(modules: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """The same without the modules."""
    total: collections.Counter[str] = collections.Counter({part: 0 for part in PARTS.values()})
    for counts in modules.values():
        total.update(counts)
    return dict(total)


def _bytes(leaf: Any, sharding: Any) -> int:
    return math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
