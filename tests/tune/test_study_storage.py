"""A search's record lies in its folder, whatever the folder is called, and a bad one is told."""

import pytest
from toy_search import toy_study

from jaxrecipes.tune.space import Float, Space


@pytest.mark.parametrize("name", ["a%20b", "a?b=c", "a#b", "a b", "{x}", "%s", "é:@", "x;y&z"])
def test_any_name_of_a_folder_holds_the_database(tmp_path, name):
    workdir = tmp_path / name
    first = toy_study(workdir, storage=None)
    first.fail(*first.draw(1, 3), "as a test")
    assert (workdir / "study.db").stat().st_size > 10_000
    assert [path.name for path in tmp_path.iterdir()] == [name]
    again = toy_study(workdir, storage=None)
    assert [trial.user_attrs["reason"] for trial in again.study.trials] == ["as a test"]


def test_another_range_in_the_same_folder_is_told(tmp_path):
    first = toy_study(tmp_path, storage=None)
    first.fail(*first.draw(1, 3), "as a test")
    other = Space({"dropout": Float(1e-3, 0.5, log=True)})
    again = toy_study(tmp_path, other, storage=None)
    with pytest.raises(ValueError, match="had other ranges of --search"):
        again.draw(1, 3)


def garbage(workdir):
    (workdir / "study.db").write_bytes(b"no database " * 999)


def folder(workdir):
    (workdir / "study.db").mkdir()


def journal(workdir):
    (workdir / "journal.log").write_text("no journal\n")


@pytest.mark.parametrize(
    ("damage", "storage", "said"),
    [
        (garbage, None, r"study\.db cannot be used: file is not a database"),
        (folder, None, r"study\.db cannot be used: unable to open database file"),
        (journal, "WORKDIR/journal.log", r"journal\.log"),
        (None, "/dev/null", "--storage /dev/null: it is a device"),
        (None, "nothing://x", "nothing://x cannot be used: .*nothing"),
        (None, "sqlite:///no/such/folder/x.db", "cannot be used: unable to open"),
        (None, "sqlite:///{x}", r"sqlite:///\{x\}"),
    ],
)
def test_a_storage_that_cannot_be_used_is_one_line(tmp_path, damage, storage, said):
    if damage is not None:
        damage(tmp_path)
    storage = storage and storage.replace("WORKDIR", str(tmp_path))
    with pytest.raises(ValueError, match=said) as raised:
        toy_study(tmp_path, storage=storage)
    assert len(str(raised.value)) < 400 + len(str(tmp_path))
    assert "\n" not in str(raised.value)
