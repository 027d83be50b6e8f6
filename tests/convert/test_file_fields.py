"""Values out of a file's dicts, and files whose content tells an architecture."""

import json

import jax
import numpy as np
import pytest

from jaxrecipes.convert import ConversionError, load_torch, save_torch
from jaxrecipes.convert.file_fields import Fields, naming, taken
from jaxrecipes.convert.rules import parameter_rules
from jaxrecipes.fields import Count, Share
from jaxrecipes.models.clip.weights import read_clip
from jaxrecipes.recipes.ocec.original_rules import ocec_rules


def test_a_number_may_be_a_tensor_or_whole():
    assert taken(np.float32(5), int, "step") == 5
    assert taken(np.array([3.0]), Count, "step") == 3
    assert taken(1, float, "lr") == 1.0
    assert taken([0.5, 0.9], tuple[Share, Share], "betas") == (0.5, 0.9)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        *((True, int), (2.5, int), ("1", float), (float("nan"), float), (1.0, Share)),
        *((10**30, int), ((0.5,), tuple[Share, Share]), (np.zeros(2), float), (None, float)),
    ],
)
def test_another_type_or_a_number_out_of_bounds_is_named(value, hint):
    with pytest.raises(ConversionError, match="expected"):
        Fields({"x": value}, "here").get("x", hint)


def test_the_place_of_a_value_is_named():
    message = r"^weights\.pt: the group has no 'lr'$"
    with pytest.raises(ConversionError, match=message), naming("weights.pt"):
        Fields({}, "the group").get("lr", float)


def test_tensors_of_other_shapes_tell_no_architecture(golden, tmp_path):
    loaded = load_torch(golden.path / "clip_iqa/openai_fp16.pt")
    key = "visual.conv1.weight"
    for wrong in (np.zeros((), np.float32), np.zeros(0, np.float32)):
        save_torch(tmp_path / "clip.pt", {**loaded, key: wrong})
        with pytest.raises(ValueError, match=r"clip\.pt: ") as caught:
            read_clip(tmp_path / "clip.pt")
        assert "\n" not in str(caught.value)


def test_a_config_json_of_another_kind_gets_a_line(golden, tmp_path):
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_bytes((golden.path / "clip_iqa/hf_tiny" / name).read_bytes())
    for config in (
        [],
        {"vision_config": [1], "text_config": {}},
        {"vision_config": {"hidden_size": "x"}},
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match=str(tmp_path)):
            read_clip(tmp_path)


def test_an_optimizer_with_names_and_averages_in_a_wrapper_are_read(golden, imported):
    """As FSDP and AveragedModel write them."""
    loaded = load_torch(golden.path / "ocec/original_checkpoint__baseline.pt")
    want = imported("ocec", loaded)
    names = [f"module.{rule.source}" for rule in parameter_rules(ocec_rules(want.config.model))]
    optimizer = loaded["optimizer_state"]
    loaded["optimizer_state"] = {
        "state": {name: optimizer["state"][i] for i, name in enumerate(names)},
        "param_groups": [{**optimizer["param_groups"][0], "params": names}],
    }
    averages = {f"module.{key}": value for key, value in loaded["model_state"].items()}
    loaded["ema_state"] = {"n_averaged": np.int64(3), **averages}
    got = imported("ocec", loaded)
    jax.tree.map(np.testing.assert_array_equal, got.state.opt_state, want.state.opt_state)
    jax.tree.map(np.testing.assert_array_equal, got.state.ema_params, want.state.params)
