import numpy as np
import pytest

from jaxrecipes.data.examples import as_examples


def test_numbers_become_those_of_a_device_and_texts_stay_on_the_host():
    split = as_examples({"x": np.zeros((2, 3)), "n": [1, 2], "name": ["a", "b"]}, "it")
    assert {name: str(x.dtype) for name, x in split.arrays.items()} == {
        "x": "float32",
        "n": "int32",
    }
    assert split.texts == {"name": ["a", "b"]}
    assert set(split.identity) == {"x", "n", "name"}
    assert len(split) == 2


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({}, "lengths none"),
        ({"x": np.zeros(2), "y": np.zeros(3)}, "x 2, y 3; expected arrays .* of one N"),
        ({"x": np.zeros((0, 2))}, "x 0"),
        ({"x": np.float32(3)}, "x 0"),
        ({"x": np.array([2**40])}, "it, x has numbers that do not fit int32"),
        ({"x": np.array([1e300])}, "do not fit float32"),
        ({"x": np.array([1j])}, "array of complex128; expected numbers or strings"),
        ([1, 2], "it is a list; expected a dict of arrays"),
    ],
)
def test_what_cannot_be_examples_is_named(split, message):
    with pytest.raises(ValueError, match=message):
        as_examples(split, "it")
