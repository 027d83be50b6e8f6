import contextlib
import os
import pickle
import struct
import time
import tracemalloc

import pytest

from jaxrecipes.recipes.hand_pose.bytes_pickle import list_of_bytes


def items(content):
    return [content[start : start + size] for start, size in list_of_bytes(content)]


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_every_list_of_bytes_comes_back(protocol):
    same = b"same" * 100
    for images in (
        [],
        [b""],
        [b"one", b"two", b"x" * 300, b"y" * 100_000],
        [same, b"z", same, same],
        [os.urandom(20) for _ in range(2500)],
        [b"a", b"a"],
    ):
        assert items(pickle.dumps(images, protocol=protocol)) == images


@pytest.mark.parametrize(
    "value", ["text", b"bytes", [b"x", "y"], [[b"x"]], (b"x",), {"a": b"x"}, [1], [os.mkdir], None]
)
def test_anything_else_is_refused(value):
    with pytest.raises(ValueError, match="something else than a list of bytes"):
        items(pickle.dumps(value))


SHARED = b"\x80\x04](" + b"".join(b"l(h%ch%ctr" % (i, i) for i in range(90)) + b"e."


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80",
        b"\x80\x04]\x8e" + struct.pack("<Q", 2**32) + b"abc.",
        b"\x80\x04]r\xff\xff\xff\x7f.",  # a memo of two billion places
        b"\x80\x03]B\xff\xff\xff\xffabc.",
        SHARED,
    ],
)
def test_a_small_pickle_takes_no_memory_and_no_time(content):
    tracemalloc.start()
    begin = time.perf_counter()
    with contextlib.suppress(ValueError):
        assert list_of_bytes(content) == []
    assert time.perf_counter() - begin < 1
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()
