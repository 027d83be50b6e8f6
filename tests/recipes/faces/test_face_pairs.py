import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipes.recipes.faces.pairs import pair_views, split_by_person, within_yaw

FILTERS = {
    "all": {},
    "min15": {"min_yaw_angle": 15.0},
    "max60": {"max_yaw_angle": 60.0},
    "min15_max60": {"min_yaw_angle": 15.0, "max_yaw_angle": 60.0},
    "min_neg20": {"min_yaw_angle": -20.0},
}


@pytest.fixture(scope="module")
def original(golden):
    arrays = golden("face3d/data_pipeline")
    sides = {
        side: json.loads(str(arrays[f"files/{side}_metadata.json"])) for side in ("front", "video")
    }
    persons = {
        side: [entry["person_name"] for entry in metadata["metadata"]]
        for side, metadata in sides.items()
    }
    poses = np.array(sides["video"]["poses"], np.float32)
    return arrays, persons, poses


@pytest.mark.parametrize("name", FILTERS)
def test_pairs_and_splits_are_the_originals_in_order(original, name):
    arrays, persons, poses = original
    kept = within_yaw(poses, **FILTERS[name])
    pairs = pair_views(persons["front"], persons["video"], kept)
    rows = np.stack([pairs.front_rows, pairs.video_rows], axis=1)
    np.testing.assert_array_equal(rows, arrays[f"pairs/{name}"])
    assert [pairs.persons[i] for i in pairs.person] == [persons["front"][i] for i in rows[:, 0]]
    for ratio, fractions in {"613": (0.6, 0.3), "721": (0.7, 0.2)}.items():
        for seed in (42, 7):
            train, val = fractions
            splits = split_by_person(
                pairs.person, train_fraction=train, val_fraction=val, seed=seed
            )
            for split, indices in splits.items():
                expected = arrays[f"split/{name}/ratio{ratio}_seed{seed}/{split}"]
                np.testing.assert_array_equal(indices, expected)


def test_people_without_video_rows_are_reported(original):
    _, persons, poses = original
    everyone = pair_views(persons["front"], persons["video"], within_yaw(poses))
    assert everyone.unpaired == ["person_016"]
    kept = np.array([name != "person_003" for name in persons["video"]])
    fewer = pair_views(persons["front"], persons["video"], kept)
    assert sorted(fewer.unpaired) == ["person_003", "person_016"]
    assert "person_003" not in fewer.persons


def test_the_filter_keeps_both_ends_and_takes_the_entry_it_is_told():
    poses = np.array([[15, 80, 0], [-15, 0, 0], [14.9, 15, 0], [60, -60, 0], [60.1, 0, 0]])
    ends = {"min_yaw_angle": 15, "max_yaw_angle": 60}
    assert within_yaw(poses, **ends).tolist() == [True, True, False, True, False]
    assert within_yaw(poses, **ends, yaw_index=1).tolist() == [False, False, True, True, False]


def test_a_filter_that_keeps_nothing_says_so(original):
    _, persons, poses = original
    with pytest.raises(ValueError, match=r"none of the 17 people .* 0 video rows \(of 64\)"):
        pair_views(persons["front"], persons["video"], within_yaw(poses, min_yaw_angle=89.5))


@settings(deadline=None, max_examples=30)
@given(
    person=st.lists(st.integers(0, 11), min_size=40, max_size=80),
    seed=st.integers(0, 2**31),
    train=st.floats(0.3, 0.6),
)
def test_nobody_is_in_two_splits_and_no_pair_is_lost(person, seed, train):
    person = np.unique(np.array([*person, *range(12)]), return_inverse=True)[1]
    splits = split_by_person(person, train_fraction=train, val_fraction=0.3, seed=seed)
    people = [set(person[indices].tolist()) for indices in splits.values()]
    assert sum(map(len, people)) == len(set.union(*people)) == 12
    assert sorted(np.concatenate(list(splits.values())).tolist()) == list(range(len(person)))
    again = split_by_person(person, train_fraction=train, val_fraction=0.3, seed=seed)
    assert all(np.array_equal(splits[name], again[name]) for name in splits)


def test_too_few_people_are_an_error_that_names_the_empty_split():
    with pytest.raises(ValueError, match=r"the val split is empty: 3 people .* give 1/0/2"):
        split_by_person(np.array([0, 0, 1, 2, 2]))
    with pytest.raises(ValueError, match="the train split is empty: 1 people"):
        split_by_person(np.array([0, 0]))


def test_a_split_without_a_fraction_is_left_out():
    splits = split_by_person(np.repeat(np.arange(10), 2), train_fraction=0.8, val_fraction=0.2)
    assert {name: len(indices) for name, indices in splits.items()} == {"train": 16, "val": 4}


def test_rows_of_nobody_make_no_pair():
    pairs = pair_views(["a", "", "b"], ["", "a", ""], np.ones(3, bool))
    assert (pairs.persons, pairs.unpaired) == (["a"], ["b"])
    assert pairs.video_rows.tolist() == [1]
