"""DINOv2 weights: every layout that is read, both written, lossless to the bit."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxrecipes.convert import (
    ConversionError,
    from_torch,
    load_safetensors,
    load_torch,
    save_safetensors,
    save_torch,
)
from jaxrecipes.models.dinov2 import weights as dinov2
from jaxrecipes.models.dinov2.config_files import from_huggingface, to_huggingface
from jaxrecipes.models.dinov2.network import Dinov2Config, dinov2_config

MLP = Dinov2Config(width=16, depth=2, num_heads=2, mlp_ratio=2.0, image_size=70)
CONFIGS = {
    "mlp": MLP,
    "swiglu": dataclasses.replace(MLP, mlp_ratio=4.0, swiglu=True),
    "registers": dataclasses.replace(MLP, num_registers=4),
}


@pytest.fixture(params=CONFIGS)
def network(request, golden):
    """(config, Hugging Face's state dict)."""
    arrays = golden(f"hand_pose/dinov2_{request.param}")
    weights = {key[3:]: array for key, array in arrays.items() if key.startswith("sd/")}
    return CONFIGS[request.param], weights


@pytest.fixture
def folder(network, tmp_path):
    """A folder as Hugging Face has it."""
    config, weights = network
    path = tmp_path / "published"
    path.mkdir()
    save_safetensors(path / "model.safetensors", weights)
    (path / "config.json").write_text(json.dumps(to_huggingface(config)))
    return path


@pytest.fixture
def mlp(golden):
    arrays = golden("hand_pose/dinov2_mlp")
    return {key[3:]: array for key, array in arrays.items() if key.startswith("sd/")}


@pytest.fixture
def official(mlp, tmp_path):
    """The same weights with the authors' keys."""
    path = tmp_path / "official.pth"
    dinov2.write_official(path, MLP, dinov2.from_torch(mlp, MLP)[1])
    return load_torch(path)


def assert_same(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_a_folder_is_rewritten_to_the_bit(network, folder, tmp_path):
    config, weights = network
    read = dinov2.read_dinov2(folder)
    assert read[0] == config
    dinov2.write_dinov2(tmp_path / "ours", *read)
    rewritten, metadata = load_safetensors(tmp_path / "ours/model.safetensors")
    assert sorted(rewritten) == sorted(weights)
    assert_same(rewritten, weights)
    assert metadata == {"format": "pt"}
    assert dinov2.read_dinov2(tmp_path / "ours")[0] == config


def test_the_authors_file_gives_the_same_parameters_and_goes_back_to_the_bit(folder, tmp_path):
    config, params = dinov2.read_dinov2(folder)
    dinov2.write_official(tmp_path / "dinov2.pth", config, params)
    again = dinov2.read_dinov2(tmp_path / "dinov2.pth", num_heads=2)
    assert again[0] == config
    assert_same(again[1], params)
    dinov2.write_official(tmp_path / "again.pth", *again)
    assert_same(load_torch(tmp_path / "again.pth"), load_torch(tmp_path / "dinov2.pth"))


def test_the_authors_keys_pack_queries_keys_and_values_in_this_order(mlp, official):
    parts = [
        mlp[f"encoder.layer.1.attention.attention.{part}.weight"]
        for part in ("query", "key", "value")
    ]
    np.testing.assert_array_equal(official["blocks.1.attn.qkv.weight"], np.concatenate(parts))
    renamed = {
        "pos_embed": "embeddings.position_embeddings",
        "mask_token": "embeddings.mask_token",
        "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
        "blocks.0.ls2.gamma": "encoder.layer.0.layer_scale2.lambda1",
        "blocks.0.attn.proj.bias": "encoder.layer.0.attention.output.dense.bias",
        "norm.weight": "layernorm.weight",
    }
    for ours, theirs in renamed.items():
        np.testing.assert_array_equal(official[ours], mlp[theirs])


def test_training_checkpoints_of_the_authors_are_read(mlp, official, tmp_path):
    def chunked(key):  # one block in each chunk, whose numbers go on over the chunks
        part = key.split(".")
        return key.replace("blocks.", f"blocks.{part[1]}.", 1) if part[0] == "blocks" else key

    teacher = {f"backbone.{chunked(key)}": array for key, array in official.items()}
    assert "backbone.blocks.1.1.norm1.weight" in teacher
    teacher["dino_head.last_layer.weight"] = np.zeros((3, 2), np.float32)
    save_torch(tmp_path / "teacher_checkpoint.pth", {"teacher": teacher})
    config, params = dinov2.read_dinov2(tmp_path / "teacher_checkpoint.pth", num_heads=2)
    assert config == MLP
    assert_same(params, dinov2.from_torch(mlp, MLP)[1])


def test_a_classifier_around_the_network_and_a_missing_mask_token_do_not_matter(mlp):
    del mlp["embeddings.mask_token"]
    around = {f"dinov2.{key}": array for key, array in mlp.items()}
    params = dinov2.from_torch({**around, "classifier.weight": np.zeros((2, 32))}, MLP)[1]
    np.testing.assert_array_equal(params["mask_token"], np.zeros(16))
    np.testing.assert_array_equal(params["norm"]["bias"], mlp["layernorm.bias"])


def test_a_file_in_a_folder_takes_the_configuration_beside_it(folder):
    assert dinov2.read_dinov2(folder / "model.safetensors")[0] == dinov2.read_dinov2(folder)[0]


def test_a_pickled_folder_is_read(folder, network):
    _, params = dinov2.read_dinov2(folder)
    (folder / "model.safetensors").unlink()
    save_torch(folder / "pytorch_model.bin", network[1])
    assert_same(dinov2.read_dinov2(folder)[1], params)


def test_heads_are_64_channels_wide_where_nothing_says_otherwise(tmp_path):
    config = dataclasses.replace(MLP, width=128)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), dinov2._template(config))
    dinov2.write_official(tmp_path / "dinov2.pth", config, zeros)
    assert dinov2.read_dinov2(tmp_path / "dinov2.pth")[0] == config


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("size", ["vit_s_14", "vit_b_14", "vit_l_14", "vit_g_14"])
def test_published_configurations_survive_hugging_face(size, registers):
    config = dinov2_config(size, num_registers=registers)
    theirs = json.loads(json.dumps(to_huggingface(config)))
    assert from_huggingface(theirs) == config
    assert theirs["model_type"] == ("dinov2_with_registers" if registers else "dinov2")
    assert theirs["mlp_ratio"] == 4


def test_the_general_converter_knows_dinov2(mlp):
    model, params, batch_stats = from_torch("dinov2", mlp, to_huggingface(MLP))
    assert model.config == MLP
    assert batch_stats == {}
    assert_same(params, dinov2.from_torch(mlp, MLP)[1])


def test_all_problems_are_reported_at_once_with_the_keys_of_the_file(mlp):
    del mlp["encoder.layer.1.attention.attention.key.weight"]
    mlp["encoder.layer.0.mlp.fc1.weight"] = np.zeros((32, 15), np.float32)
    mlp["extra"] = np.zeros(3, np.float32)
    with pytest.raises(ConversionError) as error:
        dinov2.from_torch(mlp, MLP)
    for words in (
        "encoder.layer.1.attention.attention.key.weight",
        "encoder.layer.0.mlp.fc1.weight: expected (32, 16), got (32, 15)",
        "extra",
    ):
        assert words in str(error.value)


def test_weights_of_another_size_than_the_configuration_are_refused(mlp):
    with pytest.raises(
        ConversionError, match=r"cls_token: expected \(1, 1, 384\), got \(1, 1, 16\)"
    ):
        dinov2.from_torch(mlp, dinov2_config("vit_s_14"))


def test_nothing_there_is_answered_with_where_weights_come_from(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"facebook/dinov2-small[\s\S]*write_dinov2"):
            dinov2.read_dinov2(path)


@pytest.mark.parametrize(
    ("state_dict", "words"),
    [
        ({"encoder.weight": np.zeros(1)}, "not the weights of a DINOv2"),
        ({"cls_token": np.zeros((1, 1, 8))}, "cannot be inferred without patch_embed.proj.weight"),
        ({"model": {"nested": 1}}, "not a state dict"),
    ],
)
def test_other_files_are_refused_with_a_reason(state_dict, words, tmp_path):
    save_torch(tmp_path / "weights.pt", state_dict)
    with pytest.raises(ValueError, match=words):
        dinov2.read_dinov2(tmp_path / "weights.pt")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "vit"}, "model_type 'vit', expected 'dinov2'"),
        ({"hidden_act": "relu"}, "hidden_act 'relu' is not covered, only 'gelu'"),
        ({"qkv_bias": False}, "qkv_bias False is not covered"),
    ],
)
def test_configurations_of_other_networks_are_refused(config, words):
    with pytest.raises(ValueError, match=words):
        from_huggingface(config)
