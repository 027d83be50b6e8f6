import json

import numpy as np
import pytest

from jaxrecipes.data.fingerprint import all_but_pixels, as_json, differences, of_split
from jaxrecipes.data.indexed_rows import IndexedRows

NAMES = ["a.png", "b.png", "c.png"]
LABELS = np.array([0, 1, 1], np.int32)


def found(names=NAMES, labels=LABELS, left_out=0):
    return {"train": of_split({"name": names, "label": labels}, left_out=left_out)}


def stored(**fields):
    return json.loads(json.dumps(as_json(found(**fields))))


def test_the_same_data_is_the_same_after_json():
    assert differences(stored(), found()) == []


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (found(labels=LABELS[::-1]), "train: other label (3 examples)"),
        (found(names=NAMES[::-1]), "train: other examples, or another order (3 examples)"),
        (
            found(names=NAMES[:1], labels=LABELS[:1], left_out=2),
            "train: 3 -> 1 examples (0 -> 2 could not be read)",
        ),
        ({}, "train: 3 -> none examples"),
        (found(labels=LABELS.astype(np.float32)), "train: other label (3 examples)"),
    ],
)
def test_each_difference_has_its_words(now, words):
    assert differences(stored(), now) == [words]


def test_rows_that_never_could_be_read_are_no_difference():
    assert differences(stored(), found(left_out=5)) == []


def test_splits_that_stay_are_told_beside_those_that_change():
    before, after = found() | {"val": found()["train"]}, found(labels=1 - LABELS)
    after["val"] = found()["train"]
    assert differences(as_json(before), after)[1] == "val: as before"


def test_names_do_not_run_together():
    assert of_split({"name": ["ab", "c"]}) != of_split({"name": ["a", "bc"]})


def test_rows_of_a_table_that_nobody_sees_do_not_count():
    table, rows = np.arange(12.0).reshape(6, 2), np.array([[5, 0], [0, 5]], np.int32)
    smaller = of_split({"x": IndexedRows(table[[0, 5]], np.array([[1, 0], [0, 1]], np.int32))})
    assert of_split({"x": IndexedRows(table, rows)}) == smaller
    assert of_split({"x": IndexedRows(table, rows[:, ::-1])}) != smaller


def test_pixels_do_not_count():
    arrays = {"image": np.zeros((3, 2, 2, 3), np.uint8), "label": LABELS}
    assert list(all_but_pixels(arrays)) == ["label"]
