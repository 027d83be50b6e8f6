"""TorchScript archives: their tensors are read, nothing else."""

import zipfile

import numpy as np
import pytest

from jaxrecipes.convert import UnsafeCheckpointError, save_torch
from jaxrecipes.convert.torchscript import is_torchscript, load_torchscript
from jaxrecipes.models.clip.weights import read_clip


def archive(path, pickled: bytes):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("net/data.pkl", pickled)
        file.writestr("net/constants.pkl", b"\x80\x02).")


def test_all_tensors_of_all_modules_are_read_to_the_bit(golden):
    tensors = load_torchscript(golden.path / "clip_iqa/torchscript.pt")
    expected = golden("clip_iqa/torchscript")
    assert sorted(tensors) == sorted(expected)
    for key, array in tensors.items():
        np.testing.assert_array_equal(array, expected[key])
        assert array.dtype == expected[key].dtype


def test_only_archives_of_torchscript_are_taken_for_such(golden, tmp_path):
    save_torch(tmp_path / "weights.pt", {"a": np.zeros(2)})
    (tmp_path / "text.pt").write_text("no archive")
    assert is_torchscript(golden.path / "clip_iqa/torchscript.pt")
    for name in ("weights.pt", "text.pt", "absent.pt"):
        assert not is_torchscript(tmp_path / name)


def test_names_beyond_modules_and_plain_data_are_refused(tmp_path):
    archive(tmp_path / "bad.pt", b"\x80\x02cos\nsystem\nU\x04true\x85R.")
    with pytest.raises(UnsafeCheckpointError, match=r"os\.system"):
        load_torchscript(tmp_path / "bad.pt")


def test_an_archive_without_a_module_is_refused(tmp_path):
    archive(tmp_path / "empty.pt", b"\x80\x02}.")
    with pytest.raises(ValueError, match="holds a dict, expected a TorchScript module"):
        load_torchscript(tmp_path / "empty.pt")


def test_another_network_in_torchscript_is_no_clip(golden):
    with pytest.raises(ValueError, match="not the weights of a CLIP"):
        read_clip(golden.path / "clip_iqa/torchscript.pt")
