"""Streams data that does not fit on the device from the host, batch by batch."""

from collections.abc import Callable, Iterator

import numpy as np

from jaxrecipes import host_logging
from jaxrecipes.data.indexed_rows import Arrays

with host_logging.left_alone():
    import grain

_END = 2**62  # more than any run needs


def stream_batches(
    arrays: Arrays,
    rows: Callable[[int], np.ndarray],
    start_step: int = 0,
    *,
    num_threads: int = 4,
    prefetch: int = 8,
) -> Iterator[dict[str, np.ndarray]]:
    """Host batches from `start_step` on, without end, read ahead by threads.

    The pipeline runs over batch numbers, so the position in the data is just the step: to resume,
    call again with the next step.

    Args:
      arrays: `[N, ...]` by name, usually memory-mapped.
      rows: `step -> indices` of any shape, such as `BatchOrder.indices`.
      start_step: first batch.
      num_threads: reader threads; copying rows releases the interpreter's lock.
      prefetch: batches read ahead.

    Yields:
      the arrays at `rows(step)`, `[*indices.shape, ...]` each.
    """

    def read(step: int) -> dict[str, np.ndarray]:
        indices = rows(step)
        return {name: array[indices] for name, array in arrays.items()}

    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=prefetch)
    return iter(grain.MapDataset.range(start_step, _END).map(read).to_iter_dataset(options))
