"""Home folders are found, and nothing is written over a device, a folder or an input."""

import os
import pathlib

import pytest

from jaxrecipes.convert.safetensors import save_safetensors
from jaxrecipes.convert.writer import save_torch
from jaxrecipes.files import write_bytes
from jaxrecipes.paths import check_output_file, check_output_folder, user_path


def test_a_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/tests")
    assert user_path("~/x") == pathlib.Path("/home/of/tests/x")
    assert user_path("a/~b") == pathlib.Path("a/~b")


@pytest.mark.parametrize(
    ("path", "said"),
    [("", "an empty path"), ("a\0b", "null byte"), ("~no_such_user/x", "no home folder")],
)
def test_a_path_that_is_none_is_told(path, said):
    with pytest.raises(ValueError, match=said):
        user_path(path)


def test_devices_pipes_folders_and_inputs_are_not_written_over(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "in.png").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "in.png")
    for path in ("/dev/null", "/dev/stdout", tmp_path / "pipe", tmp_path):
        with pytest.raises(ValueError, match=r"--output .*(device|folder)"):
            check_output_file(pathlib.Path(path))
    with pytest.raises(ValueError, match="it is also read"):
        check_output_file(tmp_path / "link", inputs=[tmp_path / "in.png"])
    check_output_file(tmp_path / "new" / "folder" / "out.csv", inputs=[tmp_path / "in.png"])


def test_a_folder_below_a_file_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ValueError, match="it is a file; expected a folder"):
        check_output_folder(tmp_path / "file")
    with pytest.raises(ValueError, match="is not a folder"):
        check_output_folder(tmp_path / "file" / "run")


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_bytes(path, b"x"),
        lambda path: save_torch(path, {}),
        lambda path: save_safetensors(path, {}),
    ],
)
def test_every_writer_leaves_a_pipe_alone(write, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"cannot write .*pipe"):
        write(tmp_path / "pipe")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
    assert (tmp_path / "pipe").is_fifo()
