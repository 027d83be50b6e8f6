"""An order of training that reads shards almost sequentially, for data larger than memory."""

import numpy as np

from jaxrecipes.data.order import BatchOrder


class ShardOrder(BatchOrder):
    """Shards in random order, with their sequences, and then their examples, going through shuffle
    buffers.

    At any time examples are drawn from a few sequences that are stored together, so reading stays
    almost sequential. Like `BatchOrder` it is a function of (seed, step) alone: a run resumes in
    the middle of a shard, and every number of processes or readers sees the same batches.

    With weights an epoch still has `num_examples` draws: example i occurs `floor` or `ceil` of its
    share of them, chosen at random with the right mean, at its place in the shard.

    Args:
      shards, sequences: int32 `[N]`, the shard and the sequence of each example.
      batch_size: global batch size.
      seed: of the order, not negative.
      weights: `[N]` relative probabilities, not negative, not all zero; None: every example once
        per epoch.
      sequence_buffer, example_buffer: sizes of the shuffle buffers, 1 or more; 1 keeps the order.
        The defaults are the original's.

    Raises:
      ValueError: as for `BatchOrder`; or lengths differ, or a buffer is below 1.
    """

    def __init__(
        self,
        shards: np.ndarray,
        sequences: np.ndarray,
        batch_size: int,
        seed: int,
        *,
        weights: np.ndarray | None = None,
        sequence_buffer: int = 20,
        example_buffer: int = 200,
    ):
        super().__init__(len(shards), batch_size, seed, weights=weights)
        if len(sequences) != len(shards):
            raise ValueError(f"{len(shards)} shards but {len(sequences)} sequences of examples")
        if sequence_buffer < 1 or example_buffer < 1:
            raise ValueError(
                f"shuffle buffers of {sequence_buffer} sequences and {example_buffer} examples; "
                "both must be 1 or more"
            )
        self._buffers = sequence_buffer, example_buffer
        self._by_sequence = np.argsort(sequences, kind="stable")
        _, first, self._counts = np.unique(
            sequences[self._by_sequence], return_index=True, return_counts=True
        )
        self._first = first
        self._shard = np.unique(shards[self._by_sequence[first]], return_inverse=True)[1]

    def _draw(self, epoch: int) -> np.ndarray:
        bits = np.random.Philox(np.random.SeedSequence([self.seed, epoch]))
        rank = np.argsort(bits.random_raw(self._shard.max() + 1), kind="stable")
        sequences = np.argsort(rank[self._shard], kind="stable")
        sequences = _shuffle_in_buffer(sequences, self._buffers[0], bits)
        counts = self._counts[sequences]
        within = np.arange(self.num_examples) - np.repeat(np.cumsum(counts) - counts, counts)
        examples = self._by_sequence[np.repeat(self._first[sequences], counts) + within]
        if self._chances is not None:
            uniform = (int(bits.random_raw()) >> 11) * 2.0**-53
            edges = np.floor(self._chances * self.num_examples + uniform).astype(np.int64)
            examples = np.repeat(examples, np.diff(edges, prepend=0)[examples])
        return _shuffle_in_buffer(examples, self._buffers[1], bits).astype(np.int32)


def _shuffle_in_buffer(items: np.ndarray, size: int, bits: np.random.Philox) -> np.ndarray:
    """Repeatedly yields a random one of the next `size` items, and the last ones shuffled."""
    raw = bits.random_raw(len(items))
    if size == 1:
        return items
    buffer, shuffled = items[:size].tolist(), []
    picks = (raw[: max(len(items) - size, 0)] % np.uint64(size)).tolist()
    for item, pick in zip(items[size:].tolist(), picks, strict=True):
        shuffled.append(buffer[pick])
        buffer[pick] = item
    rest = np.array(buffer, items.dtype)[np.argsort(raw[len(picks) :], kind="stable")]
    return np.concatenate([np.array(shuffled, items.dtype), rest])
