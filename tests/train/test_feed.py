import jax
import numpy as np
import pytest

from jaxrecipes.data.feed import ResidentFeed, StreamFeed, fetch
from jaxrecipes.data.order import BatchOrder
from jaxrecipes.sharding import make_mesh

RNG = np.random.default_rng(0)
ARRAYS = {
    "image": RNG.integers(0, 256, (50, 4, 6, 3), dtype=np.uint8),
    "label": RNG.integers(0, 2, 50).astype(np.int32),
}


def feeds(accumulation_steps=1, steps_per_call=3):
    order, mesh = BatchOrder(50, 8, 3), make_mesh()
    shared = {"accumulation_steps": accumulation_steps, "steps_per_call": steps_per_call}
    return (
        ResidentFeed(ARRAYS, mesh, order, **shared),
        StreamFeed(ARRAYS, mesh, order, **shared, num_threads=3),
    )


def batches(feed, step, count):
    items = feed.training_items(step, count)
    return [
        jax.device_get(fetch(feed.source, jax.tree.map(lambda x, i=i: x[i], items)))
        for i in range(count)
    ]


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_resident_and_streamed_batches_are_equal(accumulation_steps):
    resident, streamed = feeds(accumulation_steps)
    for step, count in ((0, 3), (3, 2), (5, 3), (8, 1)):
        for left, right in zip(
            batches(resident, step, count), batches(streamed, step, count), strict=True
        ):
            for name in ARRAYS:
                np.testing.assert_array_equal(left[name], right[name])


def test_a_stream_goes_on_at_any_step():
    order = BatchOrder(50, 8, 3)
    _, streamed = feeds()
    np.testing.assert_array_equal(
        batches(streamed, 11, 1)[0]["image"], ARRAYS["image"][order.indices(11)]
    )
    np.testing.assert_array_equal(
        batches(streamed, 2, 1)[0]["image"], ARRAYS["image"][order.indices(2)]
    )


def test_micro_batches_split_a_steps_examples_in_order():
    resident, _ = feeds(accumulation_steps=2)
    (batch,) = batches(resident, 4, 1)
    assert batch["label"].shape == (2, 4)
    np.testing.assert_array_equal(
        batch["label"].ravel(), ARRAYS["label"][BatchOrder(50, 8, 3).indices(4)]
    )


@pytest.mark.parametrize("feed", feeds())
def test_an_evaluation_pass_sees_every_example_once_and_masks_the_padding(feed):
    labels, masks = [], []
    for item, mask in feed.evaluation_items(16):
        labels.append(np.asarray(fetch(feed.source, item)["label"]))
        masks.append(np.asarray(mask))
    assert all(len(batch) == 16 for batch in labels)
    np.testing.assert_array_equal(np.concatenate(labels)[:50], ARRAYS["label"])
    np.testing.assert_array_equal(np.concatenate(masks), (np.arange(64) < 50).astype(np.float32))
