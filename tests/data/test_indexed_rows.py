import numpy as np

from jaxrecipes.data.feed import ResidentFeed, StreamFeed, fetch
from jaxrecipes.data.indexed_rows import IndexedRows
from jaxrecipes.sharding import make_mesh

TABLE = np.arange(12.0, dtype=np.float32).reshape(4, 3)
ROWS = np.array([3, 0, 0, 2, 3], np.int32)


def test_it_is_on_the_host_what_it_stands_for():
    indexed, array = IndexedRows(TABLE, ROWS), TABLE[ROWS]
    np.testing.assert_array_equal(np.asarray(indexed), array)
    np.testing.assert_array_equal(indexed[[4, 1]], array[[4, 1]])
    assert (len(indexed), indexed.shape, indexed.dtype) == (5, array.shape, array.dtype)
    assert indexed.nbytes == TABLE.nbytes + ROWS.nbytes


def test_resident_and_streamed_batches_gather_through_it():
    arrays, mesh = {"src": IndexedRows(TABLE, ROWS)}, make_mesh()
    for feed in (
        ResidentFeed(arrays, mesh),
        StreamFeed(arrays, mesh, None, accumulation_steps=1, steps_per_call=1, num_threads=1),
    ):
        batches = [fetch(feed.source, item)["src"] for item, _ in feed.evaluation_items(2)]
        np.testing.assert_array_equal(np.concatenate(batches)[:5], TABLE[ROWS])


def test_the_device_holds_the_table_and_not_the_examples():
    source = ResidentFeed({"src": IndexedRows(TABLE, ROWS)}, make_mesh()).source
    assert source["src"].table.shape == TABLE.shape


def test_an_example_may_have_several_rows():
    clips = np.array([[0, 1], [1, 2], [2, 3]], np.int32)
    indexed, array = IndexedRows(TABLE, clips), TABLE[clips]
    assert indexed.shape == array.shape == (3, 2, 3)
    feed = ResidentFeed({"src": indexed}, make_mesh())
    batches = [fetch(feed.source, item)["src"] for item, _ in feed.evaluation_items(3)]
    np.testing.assert_array_equal(batches[0], array)
