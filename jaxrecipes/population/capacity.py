"""How many runs fit into the memory at the same time."""

import os

import jax
import numpy as np

from jaxrecipes.train.programs import Programs
from jaxrecipes.train.run_data import RunData

_SHARE = 0.8  # of what is free; the rest is for evaluation and for what nobody counts
_COPIES = 2  # of each state: the one that trains, and the one that is being saved


def members_that_fit(programs: Programs, data: RunData, *, together: int = 1) -> int:
    """How many runs of the programs fit beside each other, at least one.

    Each keeps a state; the temporaries of a step are there once for those that are `together` in
    it. All figures are those of the compiled program and of the device (on a CPU, of the machine).

    Args:
      programs: of the runs; what trains is compiled if it was not before.
      data: of the runs, already on the device.
      together: runs whose steps are taken by one `vmap`.
    """
    count = programs.steps_per_call.count
    state = programs.abstract_state
    items = data.train.training_items(0, 1, padded_to=count)
    program = programs.train.compiled(
        state, programs.sum_shapes, data.train.source, items, np.int32(1)
    )
    memory = program.memory_analysis()
    temporaries = 0 if memory is None else memory.temp_size_in_bytes * together
    each = sum(leaf.dtype.itemsize * leaf.size for leaf in jax.tree.leaves(state)) * _COPIES
    return max(1, int(_SHARE * _free_bytes() - temporaries) // each)


def _free_bytes() -> int:
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
