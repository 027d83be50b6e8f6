import json

import numpy as np
import pytest

from jaxrecipes.data.held_out import RECORD, numbered, on_record
from jaxrecipes.recipes.clip_iqa.split import split_rows


def split(folder, count, *, seed=42, write=True, names=None):
    train, val = split_rows(count, seed=seed)
    return on_record(
        folder,
        {"train": train, "val": val},
        names or [f"{i}.png" for i in range(count)],
        settings={"seed": seed},
        write=write,
    )


def test_what_is_held_out_stays_so_when_rows_are_added(tmp_path):
    first = split(tmp_path, 200)
    drawn_anew = split(None, 201)
    assert set(drawn_anew["val"]) & set(first["train"])  # what the record is for
    again = split(tmp_path, 201)
    assert sorted(again["val"]) == sorted(first["val"])
    assert sorted(again["train"]) == [*sorted(first["train"]), 200]


def test_the_same_rows_keep_the_order_that_was_drawn(tmp_path):
    first = split(tmp_path, 50)
    again = split(tmp_path, 50)
    for name in ("train", "val"):
        np.testing.assert_array_equal(again[name], first[name])
        np.testing.assert_array_equal(again[name], split(None, 50)[name])


def test_other_settings_and_other_data_are_split_anew(tmp_path):
    split(tmp_path, 50)
    np.testing.assert_array_equal(
        split(tmp_path, 50, seed=7)["val"], split(None, 50, seed=7)["val"]
    )
    assert len(json.loads((tmp_path / RECORD).read_text())) == 2
    others = [f"other{i}.png" for i in range(30)]
    np.testing.assert_array_equal(split(tmp_path, 30, names=others)["val"], split(None, 30)["val"])
    assert len(json.loads((tmp_path / RECORD).read_text())) == 2


def test_only_who_may_writes(tmp_path):
    split(tmp_path, 50, write=False)
    assert not (tmp_path / RECORD).exists()


def test_rows_of_one_name_are_told_apart_by_their_number():
    assert numbered(["a", "b", "a", "a"]) == ["a", "b", "a\t1", "a\t2"]


def test_a_record_that_cannot_be_read_is_no_reason_to_draw_anew(tmp_path):
    (tmp_path / RECORD).write_text("[{")
    with pytest.raises(ValueError, match=r"held_out.json cannot be read"):
        split(tmp_path, 50)
