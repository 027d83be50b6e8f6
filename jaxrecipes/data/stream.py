"""A data set that does not fit on the device streams from the host, batch by batch."""

from collections.abc import Iterator

import grain
import numpy as np

from jaxrecipes.data.order import BatchOrder

_END = 2**62  # no run gets there


def stream_batches(
    images: np.ndarray,
    labels: np.ndarray,
    order: BatchOrder,
    start_step: int = 0,
    *,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int = 4,
    prefetch: int = 8,
) -> Iterator[dict[str, np.ndarray]]:
    """Host batches from `start_step` on, without end, read ahead by threads.

    The pipeline runs over batch numbers through the same `BatchOrder` as data on the device, so
    both give the same batches, and the position in the data is the step and nothing else: to
    resume, call again with the step to go on from.

    Args:
      images: `[N, H, W, 3]` uint8, usually memory-mapped.
      labels: `[N]` integers.
      order: which examples make up which batch.
      start_step: first batch.
      process_index: this process yields its contiguous part of each global batch.
      process_count: over how many processes the batch is split.
      num_threads: readers. Threads, since copying rows releases the interpreter's lock.
      prefetch: batches read ahead.

    Yields:
      `image` `[B / process_count, H, W, 3]` uint8 and `label` int32.

    Raises:
      ValueError: the arrays and the order differ in length, or the batch does not divide.
    """
    if not len(images) == len(labels) == order.num_examples:
        raise ValueError(
            f"{len(images)} images, {len(labels)} labels and an order of {order.num_examples} "
            "examples must be equally many"
        )
    if order.batch_size % process_count or not 0 <= process_index < process_count:
        raise ValueError(
            f"the batch size {order.batch_size} must divide over {process_count} processes, and "
            f"the process index {process_index} lie below their number"
        )
    local = order.batch_size // process_count
    part = slice(process_index * local, (process_index + 1) * local)
    labels = np.asarray(labels, np.int32)

    def read(step: int) -> dict[str, np.ndarray]:
        rows = order.indices(step)[part]
        return {"image": images[rows], "label": labels[rows]}

    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=prefetch)
    dataset = grain.MapDataset.range(start_step, _END).map(read)
    return iter(dataset.to_iter_dataset(options))
