import io
import zipfile

import numpy as np
import pytest

from jaxrecipes.data.array_files import read_arrays


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_arrays_come_by_name(tmp_path):
    arrays = {"a": np.arange(6).reshape(2, 3), "b": np.array(["x", "yz"])}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", **arrays)
        found = read_arrays(tmp_path / "x.npz", npy_name="e")
        assert found.keys() == arrays.keys()
        for name in arrays:
            np.testing.assert_array_equal(found[name], arrays[name])
    np.save(tmp_path / "x.npy", arrays["a"])
    np.testing.assert_array_equal(read_arrays(tmp_path / "x.npy", npy_name="e")["e"], arrays["a"])


@pytest.mark.parametrize("name", ["x.npz", "x.npy"])
def test_an_array_that_claims_to_be_larger_than_its_file_takes_no_memory(tmp_path, name):
    claimed = npy(np.zeros(10)).replace(b"(10,), }" + b" " * 10, b"(100000000000,), }")
    assert b"100000000000" in claimed
    content = claimed
    if name.endswith("z"):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("embeddings.npy", claimed)
        content = stream.getvalue()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is not a readable"):
        read_arrays(tmp_path / name, npy_name="embeddings")


@pytest.mark.parametrize(
    "content",
    [b"", b"text", b"PK\x03\x04", b"version https://git-lfs.github.com/spec/v1\noid sha256:0"],
)
@pytest.mark.parametrize("name", ["x.npz", "x.npy"])
def test_what_is_no_array_is_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is (not|an empty|a Git LFS)") as error:
        read_arrays(tmp_path / name, npy_name="embeddings")
    assert "\n" not in str(error.value)


def test_python_objects_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="holds Python objects"):
        read_arrays(tmp_path / "x.npz", npy_name="e")


def test_a_file_that_unpacks_to_hundreds_of_megabytes_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("embeddings.npy", npy(np.zeros(10)))
    content = (tmp_path / "x.npz").read_bytes()
    directory = content.index(b"PK\x01\x02")
    size = (2**31).to_bytes(4, "little")  # of the uncompressed member, in the directory
    (tmp_path / "x.npz").write_bytes(content[: directory + 24] + size + content[directory + 28 :])
    with pytest.raises(ValueError, match=r"embeddings.npy unpacks to 2147483648 bytes from"):
        read_arrays(tmp_path / "x.npz", npy_name="e")
