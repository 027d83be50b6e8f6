"""Files for PyTorch and safetensors: what is written is read back, by us and by torch."""

import math

import ml_dtypes
import numpy as np
import pytest

from jaxrecipes.convert import load_safetensors, load_torch, save_safetensors, save_torch

VALUE = {
    "none": None,
    "flags": [True, False],
    "integers": (0, -1, 2**31, -(2**40)),
    "floats": [0.1, math.inf, -math.inf],
    "text": "Größe 2",
    3: {"nested": {"empty": {}, "list": [], "tuple": ()}},
}
ARRAYS = {
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "scalar": np.float32(2.5),
    "empty": np.zeros((0, 3), np.float64),
    "int64": np.array(7),
    "half": np.array([1.5, -2], np.float16),
    "bfloat16": np.array([1.5, -2], ml_dtypes.bfloat16),
    "bool": np.array([True, False]),
    "bytes": np.arange(4, dtype=np.uint8),
}


def test_plain_values_come_back_equal(tmp_path):
    save_torch(tmp_path / "x.pt", VALUE)
    loaded = load_torch(tmp_path / "x.pt")
    assert loaded == VALUE
    assert repr(loaded) == repr(VALUE)


def test_arrays_come_back_bit_for_bit(tmp_path):
    save_torch(tmp_path / "x.pt", ARRAYS)
    for name, array in load_torch(tmp_path / "x.pt").items():
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert (array.dtype, array.shape) == (ARRAYS[name].dtype, np.shape(ARRAYS[name]))


def test_torch_reads_the_file_with_weights_only(tmp_path):
    torch = pytest.importorskip("torch")
    save_torch(tmp_path / "x.pt", {**VALUE, **ARRAYS})
    loaded = torch.load(tmp_path / "x.pt", weights_only=True)
    assert {key: loaded[key] for key in VALUE} == VALUE
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(loaded[name].float().numpy(), array.astype(np.float32))


def test_files_of_torch_are_read_like_torch_reads_them(tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    value = {
        "view": base[1:, ::2].T,
        "expanded": base[:1].expand(5, 4),
        "parameter": torch.nn.Parameter(base),
        "bfloat16": base.bfloat16(),
        "size": base.shape,
    }
    torch.save(value, tmp_path / "x.pt")
    for loaded in (load_torch(tmp_path / "x.pt"), load_torch(tmp_path / "x.pt", use_torch=True)):
        assert loaded.pop("size") == (3, 4)
        for name, array in loaded.items():
            want = value[name].detach().float().numpy()
            np.testing.assert_array_equal(array.astype(np.float32), want)


def test_what_torch_cannot_hold_is_named_with_its_place(tmp_path):
    with pytest.raises(TypeError, match=r"value\['a'\]\[1\].*object"):
        save_torch(tmp_path / "x.pt", {"a": [1, object()]})
    assert not list(tmp_path.iterdir())


def test_safetensors_keep_transposed_arrays(tmp_path):
    tree = {"a": {"kernel": ARRAYS["transposed"]}, "count": np.int32(3)}
    save_safetensors(tmp_path / "x.safetensors", tree, metadata={"epoch": "4"})
    loaded, metadata = load_safetensors(tmp_path / "x.safetensors")
    np.testing.assert_array_equal(loaded["a"]["kernel"], tree["a"]["kernel"])
    assert loaded["count"].shape == ()
    assert metadata == {"epoch": "4"}
