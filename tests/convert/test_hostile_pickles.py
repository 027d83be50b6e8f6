"""Files that ask for memory or time without measure: all readers refuse them early."""

import pickle
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from scipy import sparse

from jaxrecipes.convert import load_torch, pickles
from jaxrecipes.convert.torchscript import load_torchscript
from jaxrecipes.models.hand.mano import read_mano

MOST_BYTES, MOST_SECONDS = 200 * 2**20, 15
MANO_FIELDS = (
    *("v_template", "shapedirs", "posedirs", "weights"),
    *("J_regressor", "kintree_table", "f", "hands_mean"),
)


def in_archive(path, pickled: bytes, storages=None, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("net/data.pkl", pickled)
        file.writestr("net/constants.pkl", b"\x80\x02).")
        for key, data in (storages or {}).items():
            file.writestr(f"net/data/{key}", data)
    return path


def torch_file(folder, pickled):
    return lambda: load_torch(in_archive(folder / "x.pt", pickled))


def torchscript_file(folder, pickled):
    return lambda: load_torchscript(in_archive(folder / "x.pt", pickled))


def mano_file(folder, pickled):
    (folder / "MANO_RIGHT.pkl").write_bytes(pickled)
    return lambda: read_mano(folder / "MANO_RIGHT.pkl")


READERS = (torch_file, torchscript_file, mano_file)


def cost(read) -> tuple[Exception | None, int]:
    """What `read` raises, and the most bytes that it held; fails if it takes too long."""
    tracemalloc.start()
    begin = time.monotonic()
    try:
        read()
        raised = None
    except ValueError as error:
        raised = error
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert time.monotonic() - begin < MOST_SECONDS
    return raised, most


def doubled(inner: bytes, double: bytes, times: int) -> bytes:
    """A container that holds the one before twice, and so on: `times` levels, 2**times leaves."""
    return b"\x80\x02" + inner + double * times + b"."


LENGTHS = {
    "an index in the memo": b"\x80\x02Nr\xff\xff\xff\x10.",
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**32) + b".",
    "text": b"\x80\x04\x8d" + struct.pack("<Q", 2**32) + b".",
    "an array of bytes": b"\x80\x05\x96" + struct.pack("<Q", 2**32) + b".",
    "a frame": b"\x80\x04\x95" + struct.pack("<Q", 2**32) + b"N.",
    "an integer": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b".",
    "a call of bytearray": b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("pickled", LENGTHS.values(), ids=LENGTHS)
def test_a_declared_length_takes_no_memory(tmp_path, reader, pickled):
    _, most = cost(reader(tmp_path, pickled))
    assert most < 2**20


SHARED = {
    "lists": doubled(b"]", b"q\x00]h\x00ah\x00a", 60),
    "tuples": doubled(b")", b"q\x00h\x00\x86", 60),
    "dicts": doubled(b"}", b"q\x00}K\x01h\x00sK\x02h\x00s", 60),
    "keys": doubled(b")", b"q\x00h\x00\x86", 60)[:-1] + b"q\x01}h\x01Ns.",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "deep lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "deep tuples": b"\x80\x02)" + b"\x85" * 100_000 + b".",
    "a deep key": b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"Ns.",
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("pickled", SHARED.values(), ids=SHARED)
def test_shared_and_deep_containers_are_refused(tmp_path, reader, pickled):
    raised, most = cost(reader(tmp_path, pickled))
    assert raised is not None
    assert "\n" not in str(raised)
    assert len(str(raised)) < 500
    assert most < MOST_BYTES


def test_shared_lists_in_a_field_of_mano_are_refused(tmp_path):
    shared = SHARED["lists"][2:-1] + b"q\x01"
    fields = b"".join(b"U" + bytes([len(n)]) + n.encode() + b"h\x01s" for n in MANO_FIELDS)
    raised, _ = cost(mano_file(tmp_path, b"\x80\x02" + shared + b"0}" + fields + b"."))
    assert "v_template cannot be read" in str(raised)


def test_a_sparse_matrix_without_measure_is_refused(tmp_path):
    """Its shape, and the ends of its columns, are numbers in the file."""

    def matrix(shape, ends):
        made = sparse.csc_matrix(np.eye(2))
        made._shape, made.indptr = shape, np.array(ends)
        return made

    for shape, ends in {(10**6, 10**6): [0, 1, 2], (2, 2): [0, 1, 10**12]}.items():
        value = dict.fromkeys(MANO_FIELDS, matrix(shape, ends))
        raised, most = cost(mano_file(tmp_path, pickle.dumps(value, 2)))
        assert "v_template cannot be read: a sparse matrix" in str(raised)
        assert most < MOST_BYTES


def test_copies_of_a_container_are_counted(tmp_path):
    counter = b"\x80\x02(" + b"N" * 20_000 + b"lq\x00" + b"ccollections\nCounter\nq\x010("
    raised, most = cost(
        torch_file(tmp_path, counter + b"cbuiltins\nset\nh\x00\x85R" * 1000 + b"l.")
    )
    assert "unfolds to far more values than it has bytes" in str(raised)
    assert most < MOST_BYTES


def test_a_module_that_holds_itself_is_refused(tmp_path):
    module = b"\x80\x02c__torch__\nNet\n)\x81q\x00}U\x01ah\x00sb."
    raised, _ = cost(torchscript_file(tmp_path, module))
    assert "within each other" in str(raised)


@pytest.mark.parametrize("reader", READERS)
def test_too_many_steps_are_refused(tmp_path, monkeypatch, reader):
    assert pickles.MOST_OPERATIONS <= 2_000_000  # each takes a few hundred bytes at most
    monkeypatch.setattr(pickles, "MOST_OPERATIONS", 2000)
    raised, _ = cost(reader(tmp_path, b"\x80\x02" + b"N0" * 1000 + b"N."))
    assert "it takes more than 2,000 steps" in str(raised)


def test_an_integer_without_measure_is_refused(tmp_path):
    raised, _ = cost(torch_file(tmp_path, pickle.dumps({"epoch": 10**300}, 2)))
    assert "a whole number of 997 bits" in str(raised)


def expanded(size: int) -> bytes:
    """A tensor of `size` values, all of them one."""
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010"
        b"U\x03cpuK\x01tQK\x00J" + struct.pack("<i", size) + b"\x85K\x00\x85I00\n}tR."
    )


def test_a_tensor_far_larger_than_its_file_is_refused(tmp_path):
    path = in_archive(tmp_path / "x.pt", expanded(1000), {"0": bytes(4)})
    assert load_torch(path).shape == (1000,)
    path = in_archive(tmp_path / "x.pt", expanded(2**31 - 1), {"0": bytes(4)})
    with pytest.raises(ValueError, match="unfold to far more than the file holds"):
        load_torch(path)


@pytest.mark.parametrize("read", [load_torch, load_torchscript])
def test_a_compressed_entry_is_refused(tmp_path, read):
    path = in_archive(
        tmp_path / "x.pt", expanded(1), {"0": bytes(10**7)}, compression=zipfile.ZIP_DEFLATED
    )
    with pytest.raises(ValueError, match="is compressed"):
        read(path)


def test_entries_that_declare_more_than_the_file_has_are_refused(tmp_path):
    path = in_archive(tmp_path / "x.pt", expanded(1), {"0": bytes(4)})
    data = path.read_bytes()
    entry = data.rindex(b"PK\x01\x02")  # the last of the directory, the storage's
    sizes = struct.pack("<II", 2**30, 2**30)
    path.write_bytes(data[: entry + 20] + sizes + data[entry + 28 :])
    with pytest.raises(ValueError, match="declares 1073741824 bytes, too many"):
        load_torch(path)
