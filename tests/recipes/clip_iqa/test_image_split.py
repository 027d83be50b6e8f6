"""The splits are scikit-learn's."""

import numpy as np
import pytest

from jaxrecipes.recipes.clip_iqa.split import split_prompts, split_rows


@pytest.mark.parametrize("count", [10, 101, 2982])
def test_rows_are_split_as_by_scikit_learn(golden, count):
    expected = golden("clip_iqa/split")
    train, val = split_rows(count, test_size=0.2, seed=42)
    np.testing.assert_array_equal(train, expected[f"n{count}/train"])
    np.testing.assert_array_equal(val, expected[f"n{count}/val"])


def test_no_prompt_is_on_both_sides():
    prompts = np.array([f"prompt {i % 17}" for i in range(100)], object)
    train, val = split_prompts(prompts, test_size=0.3, seed=7)
    assert sorted([*train, *val]) == list(range(100))
    assert not set(prompts[train]) & set(prompts[val])
    assert len(set(prompts[val])) == 6  # 0.3 of 17, rounded up


def test_a_split_that_leaves_nothing_is_an_error():
    with pytest.raises(ValueError, match="holds out 1 and leaves none"):
        split_rows(1)
    with pytest.raises(ValueError, match=r"test_size is 1\.5"):
        split_rows(10, test_size=1.5)
    with pytest.raises(ValueError, match="2 different prompts"):
        split_prompts(["a", "a"])
