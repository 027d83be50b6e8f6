import itertools

import numpy as np

from jaxrecipes.data.feed import stream_batches
from jaxrecipes.data.order import BatchOrder

ARRAYS = {
    "image": np.random.default_rng(0).integers(0, 256, (50, 4, 6, 3), dtype=np.uint8),
    "label": np.arange(50, dtype=np.int32),
}
ORDER = BatchOrder(50, 8, 3)


def take(start, count, **options):
    return list(itertools.islice(stream_batches(ARRAYS, ORDER.indices, start, **options), count))


def test_a_stream_gives_the_batches_of_the_order_over_several_epochs():
    for step, batch in enumerate(take(0, 20, num_threads=3, prefetch=5)):
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(batch[name], array[ORDER.indices(step)])
            assert batch[name].dtype == array.dtype


def test_a_stream_resumes_at_any_step():
    for whole, resumed in zip(take(0, 15)[11:], take(11, 4), strict=True):
        np.testing.assert_array_equal(whole["label"], resumed["label"])
