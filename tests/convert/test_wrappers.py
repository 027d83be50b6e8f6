"""Names that wrappers of networks leave in the paths of tensors."""

import numpy as np
import pytest

from jaxrecipes.convert import ConversionError, save_safetensors, save_torch
from jaxrecipes.convert.rules import unwrapped
from jaxrecipes.convert.weight_files import read_state_dict
from jaxrecipes.models.clip.network import PUBLISHED
from jaxrecipes.models.clip.rules import clip_rules
from jaxrecipes.models.dinov2.config import Dinov2Config
from jaxrecipes.models.dinov2.rules import dinov2_rules
from jaxrecipes.recipes.face3d.network_config import Face3DConfig
from jaxrecipes.recipes.face3d.original_rules import face3d_rules
from jaxrecipes.recipes.ocec.network import OcecConfig
from jaxrecipes.recipes.ocec.original_rules import ocec_rules
from jaxrecipes.recipes.universal_face.network import UniversalFaceConfig
from jaxrecipes.recipes.universal_face.original_rules import LOSS_RULES, universal_face_rules

WANT = {"stem.0.weight": np.float32([1]), "head.bias": np.float32([2])}
WRAPPED = {
    "DataParallel": "module.{}",
    "torch.compile": "_orig_mod.{}",
    "both": "module._orig_mod.{}",
    "FSDP": "_fsdp_wrapped_module.{}",
    "Lightning": "model.{}",
    "Lightning, compiled": "model._orig_mod.{}",
    "Lightning, compiled as a whole": "_orig_mod.model.{}",
}


@pytest.mark.parametrize("pattern", WRAPPED.values(), ids=WRAPPED)
def test_a_wrapper_around_the_network_is_left_out(pattern):
    assert unwrapped({pattern.format(key): value for key, value in WANT.items()}) == WANT


@pytest.mark.parametrize("name", ["module", "_orig_mod", "_checkpoint_wrapped_module"])
def test_a_wrapper_around_a_part_is_left_out(name):
    wrapped = {f"stem.{name}.0.weight": WANT["stem.0.weight"], "head.bias": WANT["head.bias"]}
    assert unwrapped(wrapped) == WANT


def test_the_count_of_an_averaged_model_is_left_out():
    wrapped = {f"module.{key}": value for key, value in WANT.items()}
    assert unwrapped({"n_averaged": np.int64(3), **wrapped}) == WANT
    assert "n_averaged" in unwrapped({"n_averaged": np.int64(3), **WANT})


def test_two_tensors_that_become_one_are_named():
    with pytest.raises(ConversionError, match=r"model\.a and a are both 'a'"):
        unwrapped({"model.a": np.zeros(1), "a": np.zeros(1)})


def test_what_is_no_state_dict_gets_a_line():
    for value in (None, [1], {1: np.zeros(1)}):
        with pytest.raises(ConversionError, match="expected names and tensors, got"):
            unwrapped(value)


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".safetensors"])
def test_every_kind_of_file_is_unwrapped(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    wrapped = {f"_fsdp_wrapped_module.{key}": value for key, value in WANT.items()}
    (save_safetensors if suffix == ".safetensors" else save_torch)(path, wrapped)
    assert read_state_dict(path) == WANT


def test_no_network_has_parts_that_are_called_like_wrappers():
    clip, dinov2 = next(iter(PUBLISHED.values())), Dinov2Config(width=64, depth=2, num_heads=1)
    rules = [
        *ocec_rules(OcecConfig()),
        *face3d_rules(Face3DConfig()),
        *universal_face_rules(UniversalFaceConfig()),
        *LOSS_RULES,
        *(r for layout in ("huggingface", "openai") for r in clip_rules(clip, layout)),
        *(r for layout in ("huggingface", "official") for r in dinov2_rules(dinov2, layout)),
    ]
    keys = {key: 0 for rule in rules for key in rule.sources}
    assert unwrapped(keys) == keys
