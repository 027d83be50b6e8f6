import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipes.data.feed import StreamFeed, stream_batches
from jaxrecipes.data.shard_order import ShardOrder

SEQUENCES = np.repeat(np.arange(60, dtype=np.int32), np.arange(60) % 7 + 1)
SHARDS = SEQUENCES // 10


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**40), st.integers(0, 50), st.integers(1, 80), st.integers(1, 300))
def test_an_epoch_has_every_example_once(seed, epoch, sequence_buffer, example_buffer):
    order = ShardOrder(
        *(SHARDS, SEQUENCES, 8, seed),
        sequence_buffer=sequence_buffer,
        example_buffer=example_buffer,
    )
    indices = order.epoch_indices(epoch)
    assert indices.dtype == np.int32
    np.testing.assert_array_equal(np.sort(indices), np.arange(len(SHARDS)))


def test_a_batch_depends_on_seed_and_step_alone():
    forward, backward = (ShardOrder(SHARDS, SEQUENCES, 9, 5) for _ in range(2))
    batches = [forward.indices(step) for step in range(70)]
    for step in reversed(range(70)):
        np.testing.assert_array_equal(backward.indices(step), batches[step])
    assert (ShardOrder(SHARDS, SEQUENCES, 9, 6).indices(0) != batches[0]).any()


def test_the_order_never_changes_between_versions():
    order = ShardOrder(SHARDS, SEQUENCES, 8, 42)
    assert order.indices(31).tolist() == [136, 154, 87, 218, 95, 115, 122, 72]


def test_a_stream_resumes_in_the_middle_of_a_shard():
    arrays = {"x": np.arange(len(SHARDS))}
    whole = stream_batches(arrays, ShardOrder(SHARDS, SEQUENCES, 4, 1).indices)
    batches = [next(whole)["x"] for _ in range(9)]
    rest = stream_batches(arrays, ShardOrder(SHARDS, SEQUENCES, 4, 1).indices, 7, num_threads=1)
    np.testing.assert_array_equal(np.stack(batches[7:]), [next(rest)["x"] for _ in range(2)])


@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_the_processes_of_a_run_share_its_batches(monkeypatch, num_processes):
    order, parts = ShardOrder(SHARDS, SEQUENCES, 16, 1), []
    feed = StreamFeed({}, None, order, accumulation_steps=2, steps_per_call=1, num_threads=1)
    monkeypatch.setattr("jax.process_count", lambda: num_processes)
    for process in range(num_processes):
        monkeypatch.setattr("jax.process_index", lambda process=process: process)
        parts.append(feed._rows(11))
    together = np.concatenate(parts, axis=1)
    np.testing.assert_array_equal(together.reshape(-1), order.indices(11))


def test_few_sequences_are_read_from_at_a_time():
    order = ShardOrder(SHARDS, SEQUENCES, 8, 3, sequence_buffer=3, example_buffer=10)
    for step in range(order.steps_per_epoch):
        assert len(np.unique(SHARDS[order.indices(step)])) <= 3


def test_without_buffers_only_the_shards_are_shuffled():
    order = ShardOrder(SHARDS, SEQUENCES, 8, 3, sequence_buffer=1, example_buffer=1)
    indices = order.epoch_indices(0)
    for shard in range(6):
        of_shard = np.flatnonzero(shard == SHARDS)
        np.testing.assert_array_equal(indices[SHARDS[indices] == shard], of_shard)
    assert (np.diff(SHARDS[indices]) != 0).sum() == 5
    assert (indices != np.arange(len(indices))).any()


def test_examples_need_not_lie_in_order():
    shuffle = np.random.default_rng(0).permutation(len(SHARDS))
    order = ShardOrder(SHARDS[shuffle], SEQUENCES[shuffle], 8, 3, example_buffer=1)
    drawn = SEQUENCES[shuffle][order.epoch_indices(0)]
    assert (np.diff(drawn) != 0).sum() == 59


def test_weights_give_each_example_its_share():
    weights = np.where(SHARDS == 2, 3.0, np.where(SHARDS == 4, 0.0, 1.0))
    order = ShardOrder(SHARDS, SEQUENCES, 8, 3, weights=weights)
    share = weights / weights.sum() * len(SHARDS)
    total = np.zeros(len(SHARDS))
    for epoch in range(200):
        counts = np.bincount(order.epoch_indices(epoch), minlength=len(SHARDS))
        assert counts.sum() == len(SHARDS)
        assert (np.abs(counts - share) < 1).all()
        total += counts
    np.testing.assert_allclose(total / 200, share, atol=0.2)


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="both must be 1 or more"):
        ShardOrder(SHARDS, SEQUENCES, 8, 0, sequence_buffer=0)
    with pytest.raises(ValueError, match="but 59 sequences"):
        ShardOrder(SHARDS, SEQUENCES[:59], 8, 0)
    with pytest.raises(ValueError, match="larger than"):
        ShardOrder(SHARDS, SEQUENCES, 1000, 0)
