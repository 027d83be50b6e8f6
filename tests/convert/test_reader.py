"""The safe reader: what it reads, and what it refuses."""

import os
import pickle
import zipfile

import numpy as np
import pytest

from jaxrecipes.convert import UnsafeCheckpointError, load_torch, save_torch


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
