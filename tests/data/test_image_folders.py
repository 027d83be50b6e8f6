import os

import pytest

from jaxrecipes.data.image_folders import class_word, find_images
from jaxrecipes.recipes.ocec.make_parquet import make_parquet


def touch(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x")
    return file


def names(folder):
    return [path.relative_to(folder).as_posix() for path in find_images(folder)]


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("open", "open"),
        ("eyes_OPEN_2", "open"),
        ("leftClosed", "closed"),
        ("closed2", "closed"),
        ("opencv_frame_0", None),
        ("unclosed", None),
        ("open_and_closed", None),
    ],
)
def test_a_class_is_a_whole_word(name, word):
    assert class_word(name) == word


def test_copies_in_hidden_places_are_no_examples(tmp_path):
    for name in ("1.png", "._1.png", ".ipynb_checkpoints/1.png", "__MACOSX/1.png", "a/.b/1.png"):
        touch(tmp_path / name)
    assert names(tmp_path) == ["1.png"]


def test_what_infrared_cameras_write_is_an_image(tmp_path):
    for name in ("1.PGM", "2.tiff", "3.txt"):
        touch(tmp_path / name)
    assert names(tmp_path) == ["1.PGM", "2.tiff"]


def test_linked_folders_are_walked_and_loops_end(tmp_path):
    touch(tmp_path / "pool" / "1.png")
    eyes = tmp_path / "eyes"
    eyes.mkdir()
    (eyes / "linked").symlink_to(tmp_path / "pool")
    (eyes / "again").symlink_to(eyes)
    (tmp_path / "pool" / "up").symlink_to(eyes)
    assert names(eyes) == ["linked/1.png"]


def test_a_link_to_nothing_is_named(tmp_path, caplog):
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert names(tmp_path) == []
    assert "left out 1 images that are not files" in caplog.text
    assert "gone.png" in caplog.text


def test_a_name_that_is_not_utf8_is_named_and_the_others_stay(tmp_path, caplog):
    for name in (b"open_1.png", b"closed_2.png", b"open_\xe9t\xe9.png"):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as stream:
            stream.write(b"x")
    (file,) = make_parquet(tmp_path / "d.parquet", images=[tmp_path])
    assert file.is_file()
    assert "left out 1 files whose names are not UTF-8" in caplog.text
    assert "open_\\xe9t\\xe9.png" in caplog.text
    assert names(tmp_path) == ["closed_2.png", "open_1.png"]
