"""How a program gets its batches: gathered on the device, or streamed from the host. Both give the
same batches.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxrecipes import host_logging
from jaxrecipes.data.indexed_rows import Arrays, IndexedRows
from jaxrecipes.data.order import TrainingOrder, evaluation_batches
from jaxrecipes.sharding import batch_sharding, put_global, replicated


def fetch(source: Any, item: Any) -> dict[str, jax.Array]:
    """The batch for an item, inside a program: a streamed item is the batch itself, for resident
    data the batch is gathered by index.
    """
    if isinstance(item, Mapping):
        return dict(item)
    return {name: _take(array, item) for name, array in source.items()}


def _take(array: Any, rows: jax.Array) -> jax.Array:
    if isinstance(array, IndexedRows):
        return _take(array.table, _take(array.rows, rows))
    return jnp.take(array, rows, axis=0, mode="clip")


class Feed(Protocol):
    """A source of batches. `source` and the items are arguments of a program, which calls `fetch`
    on them.
    """

    source: Any

    def with_order(self, order: TrainingOrder) -> "Feed":
        """A feed of its own with the same examples in another order."""

    def training_items(self, step: int, count: int, *, padded_to: int | None = None) -> Any:
        """The items of `count` steps from `step` on, padded along a leading axis to a given length,
        by default the feed's `steps_per_call`.
        """

    def evaluation_items(
        self, batch_size: int, rows: np.ndarray | None = None
    ) -> Iterable[tuple[Any, jax.Array]]:
        """`(item, mask)` for each batch of a pass over the examples `rows` (by default all), in
        order, the last one padded.
        """


class ResidentFeed:
    """Every device holds the whole split as it is stored (images as uint8); a program gathers what
    it needs.

    Args:
      arrays: host arrays `[N, ...]` by name; for `IndexedRows` the device holds table and rows.
      mesh: the devices.
      order: which examples a training step sees; None for a split that is only evaluated.
      accumulation_steps: micro-batches that a step's examples are split into.
      steps_per_call: leading axis of the training items, unless they are asked for with another.
    """

    def __init__(
        self,
        arrays: Arrays,
        mesh: Mesh,
        order: TrainingOrder | None = None,
        *,
        accumulation_steps: int = 1,
        steps_per_call: int = 1,
    ):
        self.source: Any = jax.tree.map(
            lambda a: put_global(np.asarray(a), replicated(mesh)), dict(arrays)
        )
        self._num_examples = len(next(iter(arrays.values())))
        self._mesh, self._order = mesh, order
        self._accumulation_steps, self._steps_per_call = accumulation_steps, steps_per_call

    def with_order(self, order: TrainingOrder) -> "ResidentFeed":
        feed = copy.copy(self)
        feed._order = order
        return feed

    def training_items(self, step: int, count: int, *, padded_to: int | None = None) -> Any:
        assert self._order is not None
        steps = [step + min(i, count - 1) for i in range(padded_to or self._steps_per_call)]
        indices = np.stack(
            [_micro(self._order.indices(s), self._accumulation_steps) for s in steps]
        )
        return put_global(indices, batch_sharding(self._mesh, axis=indices.ndim - 1))

    def evaluation_items(
        self, batch_size: int, rows: np.ndarray | None = None
    ) -> list[tuple[Any, jax.Array]]:
        sharding = batch_sharding(self._mesh)
        return [
            (put_global(indices, sharding), put_global(mask, sharding))
            for indices, mask in evaluation_batches(self._num_examples, batch_size, rows=rows)
        ]


class StreamFeed:
    """Training examples stay on the host (memory-mapped); threads read batches ahead of the steps.

    Args:
      arrays: host arrays `[N, ...]` by name, usually memory-mapped.
      mesh: the devices; with several processes each reads only its own part of a batch.
      order: which examples a training step sees.
      accumulation_steps: micro-batches that a step's examples are split into.
      steps_per_call: leading axis of the training items, unless they are asked for with another.
      num_threads: readers.
    """

    def __init__(
        self,
        arrays: Arrays,
        mesh: Mesh,
        order: TrainingOrder,
        *,
        accumulation_steps: int,
        steps_per_call: int,
        num_threads: int,
    ):
        self.source: Any = {}
        self._arrays, self._order, self._mesh = arrays, order, mesh
        self._accumulation_steps, self._steps_per_call = accumulation_steps, steps_per_call
        self._num_threads = num_threads
        self._stream: Iterator[dict[str, np.ndarray]] | None = None
        self._next_step = -1

    def with_order(self, order: TrainingOrder) -> "StreamFeed":
        feed = copy.copy(self)
        feed._order, feed._stream = order, None
        return feed

    def training_items(self, step: int, count: int, *, padded_to: int | None = None) -> Any:
        if self._stream is None or step != self._next_step:
            self._stream = stream_batches(
                self._arrays, self._rows, step, num_threads=self._num_threads
            )
        batches = [next(self._stream) for _ in range(count)]
        self._next_step = step + count
        batches += batches[-1:] * ((padded_to or self._steps_per_call) - count)
        sharding = batch_sharding(self._mesh, axis=1 + (self._accumulation_steps > 1))
        return {
            name: jax.make_array_from_process_local_data(
                sharding, np.stack([b[name] for b in batches])
            )
            for name in self._arrays
        }

    def evaluation_items(
        self, batch_size: int, rows: np.ndarray | None = None
    ) -> Iterable[tuple[Any, jax.Array]]:
        sharding = batch_sharding(self._mesh)
        num_examples = len(next(iter(self._arrays.values())))
        for indices, mask in evaluation_batches(num_examples, batch_size, rows=rows):
            item = {
                name: put_global(np.asarray(a[indices]), sharding)
                for name, a in self._arrays.items()
            }
            yield item, put_global(mask, sharding)

    def _rows(self, step: int) -> np.ndarray:
        """The examples of a step that this process reads, `[B]` or `[micro-batches, B]`."""
        rows = _micro(self._order.indices(step), self._accumulation_steps)
        local = rows.shape[-1] // jax.process_count()
        return rows[..., jax.process_index() * local : (jax.process_index() + 1) * local]


def _micro(indices: np.ndarray, accumulation_steps: int) -> np.ndarray:
    return indices if accumulation_steps == 1 else indices.reshape(accumulation_steps, -1)


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
