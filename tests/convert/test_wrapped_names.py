"""The check of an original's tensors against a rule table."""

import numpy as np
import pytest

from jaxrecipes.convert import ConversionError
from jaxrecipes.convert.rules import Rule, attention_rules, dump_tensors, load_tensors
from jaxrecipes.convert.torch_objects import Unread

RULES = [Rule("w", "params/kernel"), Rule("n", "batch_stats/count")]
TEMPLATE = {
    "params": {"kernel": np.zeros(2, np.float32)},
    "batch_stats": {"count": np.zeros((), np.int32)},
}
GOOD = {"w": np.float32([1, 2]), "n": np.array(3)}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "float8_e5m2"])
def test_floats_of_other_widths_are_taken(dtype):
    loaded = load_tensors(RULES, {**GOOD, "w": np.float32([1, 2]).astype(dtype)}, TEMPLATE)
    np.testing.assert_array_equal(loaded["params"]["kernel"], np.float32([1, 2]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w": np.float32([1, np.nan])}, r"not finite \(1\): w: NaN or infinity in float32"),
        ({"w": np.array([1, 1e300])}, r"not finite \(1\): w"),
        ({"w": np.int8([1, 2])}, r"wrong dtype \(1\): w: expected one like float32, got int8"),
        ({"w": np.complex64([1, 2])}, r"wrong dtype \(1\): w"),
        ({"n": np.float32(3)}, r"wrong dtype \(1\): n: expected one like int32, got float32"),
        ({"n": np.array(2**40)}, r"too large \(1\): n: beyond int32"),
        ({"w": None}, r"no tensors \(1\): w: got None"),
        ({"w": Unread("a sparse tensor")}, r"no tensors \(1\): w: got a sparse tensor"),
        ({"w": [[1], [2, 3]]}, r"no tensors \(1\): w: got a value of kind list"),
        ({f"x{i}": np.zeros(1) for i in range(9)}, r"unexpected \(9\): x0, x1, x2, x3, \.\.\."),
    ],
)
def test_a_tensor_that_does_not_fit_is_named_in_one_line(change, message):
    with pytest.raises(ConversionError, match=message) as caught:
        load_tensors(RULES, {**GOOD, **change}, TEMPLATE)
    assert "\n" not in str(caught.value)


def test_one_tensor_of_the_original_may_be_several_of_ours():
    rules = list(attention_rules("attn", "attn"))
    packed = {
        "attn.in_proj_weight": np.arange(12, dtype=np.float32).reshape(6, 2),
        "attn.in_proj_bias": np.arange(6, dtype=np.float32),
        "attn.out_proj.weight": np.eye(2, dtype=np.float32),
        "attn.out_proj.bias": np.zeros(2, np.float32),
    }
    sizes = {"query_key": 4, "value": 2, "out_proj": 2}
    template = {
        "attn": {
            name: {"kernel": np.zeros((2, n), np.float32), "bias": np.zeros(n, np.float32)}
            for name, n in sizes.items()
        }
    }
    ours = load_tensors(rules, packed, template)
    np.testing.assert_array_equal(ours["attn"]["value"]["kernel"], [[8, 10], [9, 11]])
    np.testing.assert_array_equal(ours["attn"]["query_key"]["bias"], [0, 1, 2, 3])
    for key, array in dump_tensors(rules, ours).items():
        np.testing.assert_array_equal(array, packed[key])
    with pytest.raises(ConversionError, match=r"in_proj_bias: expected \(6,\), got \(5,\)"):
        load_tensors(rules, {**packed, "attn.in_proj_bias": np.zeros(5, np.float32)}, template)
