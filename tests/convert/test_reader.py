"""The safe reader: what it reads, and what it refuses."""

import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from jaxrecipes.convert import UnsafeCheckpointError, load_safetensors, load_torch, save_torch
from jaxrecipes.convert.torch_objects import Unread
from jaxrecipes.convert.torchscript import load_torchscript
from jaxrecipes.models.clip.weights import read_clip
from jaxrecipes.models.dinov2.weights import read_dinov2
from jaxrecipes.models.hand.mano import read_mano


def archive(path, pickled: bytes, storages: dict[str, bytes] | None = None):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        for key, data in (storages or {}).items():
            file.writestr(f"archive/data/{key}", data)
    return path


class Malicious:
    """Its pickle makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def tensor_pickle(offset: int, size: tuple, stride: tuple, count: int = 6) -> bytes:
    """A pickle of one float32 tensor on the storage "0", as torch describes it."""

    def tuple_of(*parts: str) -> str:
        return "(" + "".join(parts) + "t"

    def integers(values: tuple) -> str:
        return tuple_of(*(f"I{value}\n" for value in values))

    key = tuple_of("Vstorage\n", "ctorch\nFloatStorage\n", "V0\n", "Vcpu\n", f"I{count}\n")
    rest = (f"I{offset}\n", integers(size), integers(stride), "I00\n", "(d")
    return f"ctorch._utils\n_rebuild_tensor_v2\n{tuple_of(key, 'Q', *rest)}R.".encode()


def test_a_pickle_that_would_run_code_is_refused_by_name(tmp_path):
    target = tmp_path / "made"
    path = archive(tmp_path / "evil.pt", pickle.dumps({"model_state": Malicious(target)}, 2))
    with pytest.raises(UnsafeCheckpointError, match=r"posix\.mkdir|nt\.mkdir"):
        load_torch(path)
    assert not target.exists()


@pytest.mark.parametrize(
    "name", ["builtins\neval", "os\nsystem", "torch\nload", "argparse\nNamespace"]
)
def test_names_beyond_plain_data_are_refused(tmp_path, name):
    path = archive(tmp_path / "x.pt", b"\x80\x02c" + name.encode() + b"\n.")
    with pytest.raises(UnsafeCheckpointError, match=name.replace("\n", r"\.")):
        load_torch(path)


def test_a_strided_view_is_read(tmp_path):
    data = np.arange(6, dtype=np.float32)
    path = archive(tmp_path / "x.pt", tensor_pickle(1, (2, 2), (1, 2)), {"0": data.tobytes()})
    np.testing.assert_array_equal(load_torch(path), [[1, 3], [2, 4]])


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (7,), (1,)), (5, (2,), (1,)), (0, (2, 3), (4, 1)), (-1, (2,), (1,)), (3, (2,), (-1,))],
)
def test_a_view_beyond_its_storage_is_refused(tmp_path, offset, size, stride):
    path = archive(tmp_path / "x.pt", tensor_pickle(offset, size, stride), {"0": bytes(24)})
    with pytest.raises(ValueError, match=r"storage|bad tensor"):
        load_torch(path)


def test_a_storage_shorter_than_declared_is_refused(tmp_path):
    path = archive(tmp_path / "x.pt", tensor_pickle(0, (2,), (1,)), {"0": bytes(8)})
    with pytest.raises(ValueError, match="holds 2 values, 6 are declared"):
        load_torch(path)


def test_a_legacy_file_says_how_to_read_it(tmp_path):
    path = tmp_path / "old.pth"
    path.write_bytes(pickle.dumps({"weight": 1}))
    with pytest.raises(ValueError, match=r"jaxrecipes\[torch\].*use_torch=True"):
        load_torch(path)


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "x.pt"
    save_torch(path, {"weight": np.arange(1000, dtype=np.float32)})
    data = bytearray(path.read_bytes())
    data[1500] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        load_torch(path)


def test_another_zip_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr("readme", "hello")
    with pytest.raises(ValueError, match=r"no data\.pkl"):
        load_torch(tmp_path / "x.zip")


def torch_pickle(*values: bytes) -> bytes:
    """A pickle of a list of values, each the operations that make it."""
    return b"\x80\x02]" + b"".join(value + b"a" for value in values) + b"."


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def stored_tensor(kind: str, dtype: str, *, extra: bytes = b"", size: int = 3) -> bytes:
    """A tensor on the storage "0" as `torch.save` writes it, whole."""
    storage = b"(" + text("storage") + b"ctorch" + dtype.encode() + b"\n" + text("0") + text("cpu")
    numbers = bytes([size])
    call = b"ctorch._utils\n_rebuild_tensor_" + kind.encode() + b"\n("
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    ends = b"K\x00K" + numbers + b"\x85K\x01\x85" + hooks + extra + b"tR"
    return call + storage + b"K" + numbers + b"tQ" + ends


SCALAR = (
    b"cnumpy._core.multiarray\nscalar\n(cnumpy\ndtype\n(" + text("f8") + b"\x89\x88tR"
    b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    b"c_codecs\nencode\n(" + text(struct.pack("<d", 2.5).decode("latin1")) + text("latin1")
) + b"tRtR"


def test_plain_objects_that_torch_loads_are_read(tmp_path):
    """As `torch.save` writes them; `torch.load(weights_only=True)` takes them too."""
    counter = b"ccollections\nCounter\n}" + text("a") + b"K\x02s\x85R"
    values = {
        SCALAR: 2.5,
        b"ctorch\ndevice\n" + text("cuda") + b"K\x01\x86R": "cuda:1",
        b"ctorch\nfloat16\n": "torch.float16",
        b"ctorch\nSize\nK\x01K\x02\x86\x85R": (1, 2),
        counter: {"a": 2},
        b"ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R" + text("k") + b"]s": {"k": []},
        b"c__builtin__\nset\n]K\x01aK\x02a\x85R": {1, 2},
        b"c__builtin__\ncomplex\nG" + bytes(8) + b"G" + struct.pack(">d", 1) + b"\x86R": 1j,
        b"c_codecs\nencode\n" + text("\xff") + text("latin1") + b"\x86R": b"\xff",
    }
    path = archive(tmp_path / "x.pt", torch_pickle(*values))
    assert load_torch(path) == list(values.values())


@pytest.mark.parametrize("name", ["uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"])
def test_dtypes_of_newer_tensors_are_read(tmp_path, name):
    want = np.arange(3).astype(np.dtype(name))
    pickled = stored_tensor("v3", ".storage\nUntypedStorage", extra=f"ctorch\n{name}\n".encode())
    pickled = pickled.replace(b"K\x03tQ", b"K" + bytes([want.nbytes]) + b"tQ")
    path = archive(tmp_path / "x.pt", torch_pickle(pickled), {"0": want.tobytes()})
    (got,) = load_torch(path)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got.astype(float), [0, 1, 2])


def test_lazily_negated_and_conjugated_tensors_have_their_values(tmp_path):
    """`z.conj().imag` is stored as it was, with a flag."""
    negated = stored_tensor("v2", "\nFloatStorage", extra=b"}" + text("neg") + b"\x88s")
    path = archive(tmp_path / "x.pt", torch_pickle(negated), {"0": np.float32([1, -2, 3])})
    np.testing.assert_array_equal(load_torch(path)[0], [-1, 2, -3])
    conjugated = stored_tensor("v2", "\nComplexFloatStorage", extra=b"}" + text("conj") + b"\x88s")
    path = archive(tmp_path / "y.pt", torch_pickle(conjugated), {"0": np.complex64([1j, 2, 3])})
    np.testing.assert_array_equal(load_torch(path)[0], [-1j, 2, 3])


def test_tensors_without_a_counterpart_leave_the_rest_readable(tmp_path):
    sparse = b"ctorch._utils\n_rebuild_sparse_tensor\nNN\x86R"
    good = stored_tensor("v2", "\nFloatStorage")
    path = archive(tmp_path / "x.pt", torch_pickle(sparse, good), {"0": bytes(12)})
    unread, read = load_torch(path)
    assert unread == Unread("a sparse tensor")
    assert read.shape == (3,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "run git lfs pull"),
        ("", "is an empty file"),
        ("<!DOCTYPE html><html>not found</html>", "is a web page, not the file itself"),
    ],
)
@pytest.mark.parametrize(
    "read", [load_torch, load_torchscript, load_safetensors, read_mano, read_clip, read_dinov2]
)
def test_what_stands_in_for_a_file_of_weights_gets_a_line(tmp_path, read, content, message):
    path = tmp_path / "weights.safetensors"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def safetensors_file(path, entry: dict, data: bytes, *, declared: int | None = None):
    header = json.dumps(entry).encode()
    path.write_bytes(struct.pack("<Q", declared or len(header)) + header + data)
    return path


def test_8_bit_floats_in_safetensors_are_read(tmp_path):
    want = np.arange(4).astype(np.dtype("float8_e4m3fn")).reshape(2, 2)
    entry = {"a": {"dtype": "F8_E4M3", "shape": [2, 2], "data_offsets": [0, 4]}}
    arrays, _ = load_safetensors(safetensors_file(tmp_path / "x", entry, want.tobytes()))
    np.testing.assert_array_equal(arrays["a"], want)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("a", "F4", [8], 0, 4)], "no safetensors file"),
        ([("a", "F32", [0, 2**62], 0, 0), ("b", "F32", [1], 0, 4)], "too big"),
        ([("a", "F32", [1], 0, 4), ("b", "F32", [1], 0, 4)], "invalid offset"),
        ([("a", "U8", [2], 0, 2), ("a/b", "U8", [2], 2, 4)], "a and a/b cannot both be there"),
    ],
)
def test_safetensors_that_are_not_consistent_are_refused(tmp_path, entries, message):
    header = {
        name: {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
        for name, dtype, shape, begin, end in entries
    }
    path = safetensors_file(tmp_path / "x", header, bytes(4))
    with pytest.raises(ValueError, match=message) as caught:
        load_safetensors(path)
    assert str(path) in str(caught.value)


def test_a_header_without_measure_is_refused_before_it_is_read(tmp_path):
    path = safetensors_file(tmp_path / "x", {}, b"", declared=90_000_000)
    with pytest.raises(ValueError, match="declares a header of 90000000 bytes"):
        load_safetensors(path)
