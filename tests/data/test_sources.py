import itertools

import jax
import numpy as np
import pytest

from jaxrecipes.data.order import BatchOrder
from jaxrecipes.data.sources import DeviceSource
from jaxrecipes.data.stream import stream_batches

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (50, 4, 6, 3), dtype=np.uint8)
LABELS = RNG.integers(0, 2, 50)


@pytest.mark.parametrize("weights", [None, np.arange(50.0)])
def test_device_and_stream_give_the_same_batches(weights):
    order = BatchOrder(50, 8, 3, weights=weights)
    source = DeviceSource.create(IMAGES, LABELS)
    gather = jax.jit(lambda source, indices: source.gather(indices))
    stream = stream_batches(IMAGES, LABELS, order, num_threads=3, prefetch=4)
    for step, streamed in enumerate(itertools.islice(stream, 20)):
        batch = gather(source, order.indices(step))
        assert batch.keys() == streamed.keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], streamed[name])
            assert batch[name].dtype == streamed[name].dtype


def test_a_stream_resumes_at_any_step():
    order = BatchOrder(50, 8, 3)
    whole = list(itertools.islice(stream_batches(IMAGES, LABELS, order), 15))
    resumed = list(itertools.islice(stream_batches(IMAGES, LABELS, order, 11), 4))
    for left, right in zip(whole[11:], resumed, strict=True):
        np.testing.assert_array_equal(left["image"], right["image"])


def test_processes_share_out_the_global_batch():
    order = BatchOrder(50, 8, 3)
    parts = [
        next(stream_batches(IMAGES, LABELS, order, 2, process_index=i, process_count=2))
        for i in range(2)
    ]
    joined = np.concatenate([part["image"] for part in parts])
    np.testing.assert_array_equal(joined, IMAGES[order.indices(2)])


def test_uneven_processes_and_lengths_are_refused():
    order = BatchOrder(50, 8, 3)
    with pytest.raises(ValueError, match="divide over 3 processes"):
        stream_batches(IMAGES, LABELS, order, process_count=3)
    with pytest.raises(ValueError, match="equally many"):
        stream_batches(IMAGES[:49], LABELS, order)


def test_a_source_is_a_pytree_that_a_new_data_set_does_not_retrace():
    traces = []

    @jax.jit
    def first_label(source, indices):
        traces.append(1)
        return source.gather(indices)["label"]

    first_label(DeviceSource.create(IMAGES, LABELS), np.arange(3))
    first_label(DeviceSource.create(255 - IMAGES, 1 - LABELS), np.arange(3))
    assert len(traces) == 1


def test_bad_arrays_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        DeviceSource.create(IMAGES.astype(np.float32), LABELS)
    with pytest.raises(ValueError, match="50 images need labels"):
        DeviceSource.create(IMAGES, LABELS[:4])
