"""The data of a run: feeds made from arrays in host memory, kept on the device if they fit there
and streamed otherwise.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax.sharding import Mesh

from jaxrecipes.data.feed import Feed, ResidentFeed, StreamFeed
from jaxrecipes.data.fingerprint import Fingerprint, all_but_pixels, of_split
from jaxrecipes.data.indexed_rows import Arrays
from jaxrecipes.data.order import BatchOrder, TrainingOrder
from jaxrecipes.sharding import check_batch_divides
from jaxrecipes.train.config import RunConfig

# A split is kept on the device if it takes no more than this share of its memory or, on a CPU, no
# more than this many bytes.
DEVICE_SHARE = 0.25
_CPU_BYTES = 4 * 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """A split to evaluate on: its feed, batch size, and host arrays (labels ...) in order."""

    feed: Feed
    batch_size: int
    arrays: Arrays


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunData:
    """The data of a run.

    Attributes:
      mesh: the devices that all feeds are made for.
      train: feed of the training steps.
      train_batch: `step -> batch` on the host, for dumping a batch that broke the run.
      steps_per_epoch, examples_per_step: the length of an epoch and of a step.
      val, test: splits to evaluate on, or None.
      fingerprint: of all splits; a resumed run must find the same one.
    """

    mesh: Mesh
    train: Feed
    train_batch: Callable[[int], dict[str, np.ndarray]]
    steps_per_epoch: int
    examples_per_step: int
    fingerprint: Fingerprint
    val: Split | None = None
    test: Split | None = None


def make_run_data(
    splits: Mapping[str, Arrays],
    config: RunConfig,
    mesh: Mesh,
    *,
    order: TrainingOrder | None = None,
    fingerprint: Fingerprint | None = None,
) -> RunData:
    """The data of a run.

    Args:
      splits: `train`, and `val` and `test` if there are any: host arrays `[N, ...]` by name.
      config: batch sizes, placement, seed and accumulation; `config.data` is a `DataConfig`.
      mesh: the devices.
      order: which `examples_per_step(config)` examples each step sees; None: all of them, newly
        shuffled in every epoch.
      fingerprint: of the splits; None: computed from all arrays except pixels.

    Raises:
      ValueError: a batch that is larger than the training split or does not divide over the
        devices.
    """
    data = config.data
    check_batch_divides(data.batch_size, mesh)
    eval_batch_size = -(-data.eval_batch_size // mesh.size) * mesh.size
    train = splits["train"]
    order = order or BatchOrder(_length(train), examples_per_step(config), config.seed)
    feed: Feed
    steps = {
        "accumulation_steps": config.optim.accumulation_steps,
        "steps_per_call": config.loop.steps_per_call or 1,
    }
    if _fits(train, data.placement):
        feed = ResidentFeed(train, mesh, order, **steps)
    else:
        feed = StreamFeed(train, mesh, order, **steps, num_threads=data.stream_threads)

    return RunData(
        mesh=mesh,
        train=feed,
        train_batch=_train_batch(train, order),
        steps_per_epoch=config.loop.validate_every_steps or order.steps_per_epoch,
        examples_per_step=examples_per_step(config),
        fingerprint=fingerprint
        or {name: of_split(all_but_pixels(arrays)) for name, arrays in splits.items()},
        **{
            name: make_split(splits[name], mesh, eval_batch_size, data.placement)
            for name in ("val", "test")
            if name in splits
        },
    )


def reordered(
    data: RunData, train: Arrays, config: RunConfig, order: TrainingOrder | None = None
) -> RunData:
    """The data of another run that trains on the same examples in its own order.

    Args:
      data: of a run whose config differs, with regard to data, at most in its seed.
      train: its training examples.
      config: of the other run.
      order: as of `make_run_data`.
    """
    order = order or BatchOrder(_length(train), examples_per_step(config), config.seed)
    feed, batch = data.train.with_order(order), _train_batch(train, order)
    return dataclasses.replace(data, train=feed, train_batch=batch)


def _train_batch(train: Arrays, order: TrainingOrder) -> Callable[[int], dict[str, np.ndarray]]:
    def train_batch(step: int) -> dict[str, np.ndarray]:
        return {name: np.asarray(array[order.indices(step)]) for name, array in train.items()}

    return train_batch


def examples_per_step(config: RunConfig) -> int:
    """Examples in a step, over all devices and micro-batches."""
    return config.data.batch_size * config.optim.accumulation_steps


def make_split(arrays: Arrays, mesh: Mesh, batch_size: int, placement: str) -> Split:
    """A split to evaluate on."""
    order = BatchOrder(_length(arrays), 1, 0)
    if _fits(arrays, placement):
        feed: Feed = ResidentFeed(arrays, mesh)
    else:
        feed = StreamFeed(
            arrays, mesh, order, accumulation_steps=1, steps_per_call=1, num_threads=1
        )
    return Split(feed=feed, batch_size=batch_size, arrays=arrays)


def _fits(arrays: Arrays, placement: str) -> bool:
    if placement != "auto":
        return placement == "device"
    stats = jax.local_devices()[0].memory_stats() or {}
    room = stats.get("bytes_limit", 0) * DEVICE_SHARE or _CPU_BYTES
    return sum(array.nbytes for array in arrays.values()) <= room


def _length(arrays: Arrays) -> int:
    return len(next(iter(arrays.values())))
