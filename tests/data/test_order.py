import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipes.data.order import BatchOrder, evaluation_batches


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 200), st.integers(1, 50), st.integers(0, 2**40), st.integers(0, 1000))
def test_an_epoch_is_a_permutation(num_examples, batch_size, seed, epoch):
    order = BatchOrder(num_examples, min(batch_size, num_examples), seed)
    indices = order.epoch_indices(epoch)
    assert indices.dtype == np.int32
    np.testing.assert_array_equal(np.sort(indices), np.arange(num_examples))


def test_a_batch_depends_on_seed_and_step_alone():
    forward, backward = BatchOrder(103, 10, 5), BatchOrder(103, 10, 5)
    batches = [forward.indices(step) for step in range(40)]
    for step in reversed(range(40)):
        np.testing.assert_array_equal(backward.indices(step), batches[step])


def test_epochs_and_seeds_differ():
    order = BatchOrder(100, 10, 5)
    assert (order.epoch_indices(0) != order.epoch_indices(1)).any()
    assert (order.epoch_indices(0) != BatchOrder(100, 10, 6).epoch_indices(0)).any()


def test_the_order_never_changes_between_versions():
    assert BatchOrder(8, 4, 42).indices(3).tolist() == [5, 6, 0, 1]


def test_the_last_incomplete_batch_is_dropped():
    order = BatchOrder(25, 10, 0)
    assert order.steps_per_epoch == 2
    seen = np.concatenate([order.indices(0), order.indices(1)])
    np.testing.assert_array_equal(seen, order.epoch_indices(0)[:20])
    np.testing.assert_array_equal(order.indices(2), order.epoch_indices(1)[:10])


def test_weights_give_the_share_of_draws():
    weights = np.array([0.0, 1.0, 3.0, 0.0])
    order = BatchOrder(4, 4, 0, weights=weights)
    draws = np.concatenate([order.epoch_indices(epoch) for epoch in range(2000)])
    counts = np.bincount(draws, minlength=4)
    assert counts[0] == counts[3] == 0
    assert counts[2] / counts[1] == pytest.approx(3.0, rel=0.1)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match=r"batch size 64 is larger than the 10 .*10 or less"):
        BatchOrder(10, 64, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_examples": 0, "batch_size": 1, "seed": 0}, "1 or more"),
        ({"num_examples": 5, "batch_size": 0, "seed": 0}, "1 or more"),
        ({"num_examples": 5, "batch_size": 1, "seed": -1}, "0 or more"),
        ({"num_examples": 2, "batch_size": 1, "seed": 0, "weights": np.ones(3)}, "shape"),
        ({"num_examples": 2, "batch_size": 1, "seed": 0, "weights": np.zeros(2)}, "all zero"),
    ],
)
def test_bad_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        BatchOrder(**arguments)


@pytest.mark.parametrize("num_examples", [1, 7, 8, 9])
def test_evaluation_sees_every_example_once_in_order(num_examples):
    batches = list(evaluation_batches(num_examples, 4))
    assert all(indices.shape == mask.shape == (4,) for indices, mask in batches)
    seen = np.concatenate([indices[mask == 1] for indices, mask in batches])
    np.testing.assert_array_equal(seen, np.arange(num_examples))
    assert all((indices < num_examples).all() for indices, _ in batches)
