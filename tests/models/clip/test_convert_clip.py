"""CLIP weights: every layout that is read, Hugging Face's written, lossless to the bit."""

import dataclasses
import functools
import json
import shutil

import jax
import numpy as np
import pytest

from jaxrecipes.convert import ConversionError, load_safetensors, save_safetensors, save_torch
from jaxrecipes.convert.rules import dump_tensors
from jaxrecipes.models.clip import weights as clip
from jaxrecipes.models.clip.config_files import from_huggingface, from_open_clip, to_huggingface
from jaxrecipes.models.clip.network import (
    PUBLISHED,
    ClipConfig,
    ClipText,
    ClipTextConfig,
    ClipVision,
    ClipVisionConfig,
)
from jaxrecipes.models.clip.rules import clip_rules

HEADS = (4, 4)  # of the golden towers, whose heads are not 64 wide


@pytest.fixture(scope="module")
def folder(golden):
    return golden.path / "clip_iqa/hf_tiny"


@pytest.fixture(scope="module")
def weights(folder):
    return load_safetensors(folder / "model.safetensors")[0]


@pytest.fixture(scope="module")
def openai(golden):
    arrays = golden("clip_iqa/clip_openai")
    return {key[3:]: array for key, array in arrays.items() if key.startswith("sd/")}


@pytest.fixture(scope="module")
def random_clip():
    vision = ClipVisionConfig(
        width=12,
        depth=1,
        num_heads=3,
        mlp_width=20,
        image_size=8,
        patch_size=4,
        activation="gelu",
        norm_eps=1e-4,
    )
    text = ClipTextConfig(
        width=10,
        depth=2,
        num_heads=2,
        mlp_width=8,
        vocab_size=30,
        context_length=6,
        end_token_id=29,
        activation="gelu",
        norm_eps=1e-4,
    )
    config, rng = ClipConfig(vision=vision, text=text, projection_dim=7), np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: np.asarray(rng.normal(size=leaf.shape), np.float32), clip._template(config)
    )
    return config, params


def assert_same(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


@functools.partial(jax.jit, static_argnums=0)
def features(config, params, images, token_ids):
    vision = ClipVision(config.vision, config.projection_dim)
    text = ClipText(config.text, config.projection_dim)
    return (
        vision.apply({"params": params["vision"]}, images).features,
        text.apply({"params": params["text"]}, token_ids).features,
    )


def test_a_random_clip_written_as_a_folder_is_read_back_to_the_bit(random_clip, tmp_path):
    clip.write_clip(tmp_path / "clip", *random_clip)
    config, params = clip.read_clip(tmp_path / "clip")
    assert config == random_clip[0]
    assert_same(params, random_clip[1])


def test_a_folder_of_transformers_is_rewritten_to_the_bit(folder, weights, tmp_path):
    clip.write_clip(tmp_path, *clip.read_clip(folder))
    rewritten, metadata = load_safetensors(tmp_path / "model.safetensors")
    assert sorted(rewritten) == sorted(weights)
    assert metadata == {"format": "pt"}
    assert_same(rewritten, weights)
    theirs = json.loads((folder / "config.json").read_text())
    ours = json.loads((tmp_path / "config.json").read_text())
    assert from_huggingface(ours) == from_huggingface(theirs)
    for tower in ("text_config", "vision_config"):
        for field in set(ours[tower]) - {"projection_dim"}:  # transformers wrote a wrong one there
            assert ours[tower][field] == theirs[tower][field], field


def test_openai_keys_give_the_same_parameters_and_go_back_to_the_bit(folder, openai):
    config, params = clip.read_clip(folder)
    _, same, _ = clip.from_torch(openai, config)
    assert_same(same, params)
    back = dump_tensors(clip_rules(config, "openai"), params)
    assert sorted(back) == sorted(openai)
    assert_same(back, openai)


def test_a_half_precision_file_of_openai_is_computed_in_float32(golden):
    config, params = clip.read_clip(golden.path / "clip_iqa/openai_fp16.pt", num_heads=HEADS)
    expected = golden("clip_iqa/openai_fp16_expected")
    images = expected["pixel_values"].transpose(0, 2, 3, 1)
    image, text = features(config, params, images, expected["input_ids"])
    np.testing.assert_allclose(image, expected["image_features"], atol=5e-6)
    np.testing.assert_allclose(text, expected["text_features"], atol=5e-6)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_openai_weights_give_the_features_of_open_clip(golden, openai, tmp_path, activation):
    arrays = golden("clip_iqa/clip_openai")
    save_safetensors(tmp_path / "open_clip.safetensors", openai)
    config, params = clip.read_clip(
        tmp_path / "open_clip.safetensors", activation=activation, num_heads=HEADS
    )
    images = arrays["pixel_values"].transpose(0, 2, 3, 1)
    image, text = features(config, params, images, arrays["input_ids"])
    prefix = "out" if activation == "quick_gelu" else "gelu"
    np.testing.assert_allclose(image, arrays[f"{prefix}/image_features"], atol=5e-6)
    np.testing.assert_allclose(text, arrays[f"{prefix}/text_features"], atol=5e-6)


def test_the_size_is_told_from_shapes_in_both_layouts(folder, weights, openai, tmp_path):
    config, _ = clip.read_clip(folder)
    for name, state_dict in (("hf", weights), ("openai", openai)):
        save_safetensors(tmp_path / f"{name}.safetensors", state_dict)
        told, _ = clip.read_clip(tmp_path / f"{name}.safetensors", num_heads=HEADS)
        assert told == config


def test_a_file_in_a_folder_of_hugging_face_takes_the_configuration_beside_it(folder):
    config, _ = clip.read_clip(folder / "model.safetensors")
    assert config == clip.read_clip(folder)[0]


def test_pickled_and_sharded_folders_are_read(folder, weights, tmp_path):
    _, params = clip.read_clip(folder)
    for name in ("pickled", "sharded"):
        (tmp_path / name).mkdir()
        shutil.copyfile(folder / "config.json", tmp_path / name / "config.json")
    old = {**weights, "text_model.embeddings.position_ids": np.arange(16)[None]}
    save_torch(tmp_path / "pickled/pytorch_model.bin", old)
    shards = {key: f"model-{i % 2}.safetensors" for i, key in enumerate(weights)}
    for shard in set(shards.values()):
        part = {key: weights[key] for key in weights if shards[key] == shard}
        save_safetensors(tmp_path / "sharded" / shard, part)
    index = json.dumps({"weight_map": shards})
    (tmp_path / "sharded/model.safetensors.index.json").write_text(index)
    for name in ("pickled", "sharded"):
        assert_same(clip.read_clip(tmp_path / name)[1], params)


def test_a_folder_and_a_training_checkpoint_of_open_clip_are_read(folder, openai, tmp_path):
    config, params = clip.read_clip(folder, activation="gelu")
    custom = {
        key if key.startswith(("visual.", "logit_scale")) else f"text.{key}": array
        for key, array in openai.items()
    }
    model = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 3, "width": 32, "patch_size": 8}
        | {"head_width": 8, "mlp_ratio": 2.0},
        "text_cfg": {"context_length": 16, "vocab_size": 100, "width": 24, "heads": 4, "layers": 2}
        | {"mlp_ratio": 2.0},
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))
    save_safetensors(tmp_path / "open_clip_model.safetensors", custom)
    read = clip.read_clip(tmp_path)
    assert read[0] == config
    assert_same(read[1], params)
    assert from_open_clip({"model_cfg": {**model, "quick_gelu": True}}).text.activation != "gelu"
    trained = {"epoch": 1, "state_dict": {f"module.{key}": a for key, a in openai.items()}}
    save_torch(tmp_path / "epoch_1.pt", trained)
    assert_same(clip.read_clip(tmp_path / "epoch_1.pt", num_heads=HEADS)[1], params)


@pytest.mark.parametrize("tower", ["text", "vision"])
@pytest.mark.parametrize("prefixed", [True, False])
def test_a_folder_of_one_tower_gives_that_tower(tower, prefixed, folder, weights, tmp_path):
    theirs = json.loads((folder / "config.json").read_text())
    config = {**theirs[f"{tower}_config"], "projection_dim": theirs["projection_dim"]}
    projection = {"text": "text_projection.", "vision": "visual_projection."}[tower]
    state_dict = {
        key if prefixed else key.removeprefix(f"{tower}_model."): array
        for key, array in weights.items()
        if key.startswith((f"{tower}_model.", projection))
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_safetensors(tmp_path / "model.safetensors", state_dict)
    whole_config, whole = clip.read_clip(folder)
    for path in (tmp_path, folder):
        read, params = clip.read_clip_tower(path, tower)
        assert getattr(read, tower) == getattr(whole_config, tower)
        assert read.projection_dim == whole_config.projection_dim
        assert list(params) == [tower]
        assert_same(params[tower], whole[tower])
    save_safetensors(tmp_path / "model.safetensors", {**state_dict, "extra": np.zeros(1)})
    with pytest.raises(ConversionError, match="extra"):
        clip.read_clip_tower(tmp_path, tower)


def test_published_configurations_survive_hugging_face(random_clip):
    for config in (*PUBLISHED.values(), random_clip[0]):
        assert from_huggingface(json.loads(json.dumps(to_huggingface(config)))) == config


def test_an_empty_configuration_is_vit_b_32():
    config, published = from_huggingface({}), PUBLISHED["ViT-B/32"]
    assert config.text.end_token_id == 49407
    assert config == dataclasses.replace(published, text=config.text)


def test_all_problems_are_reported_at_once_with_the_keys_of_the_file(folder, weights):
    state_dict = dict(weights)
    del state_dict["text_model.encoder.layers.1.self_attn.k_proj.weight"]
    state_dict["visual_projection.weight"] = np.zeros((16, 31), np.float32)
    state_dict["extra"] = np.zeros(3, np.float32)
    state_dict["vision_model.encoder.layers.0.self_attn.v_proj.bias"] = np.zeros(31, np.float32)
    with pytest.raises(ConversionError) as error:
        clip.from_torch(state_dict, clip.read_clip(folder)[0])
    for words in (
        "layers.1.self_attn.k_proj.weight",
        "extra",
        "visual_projection.weight: expected (16, 32), got (16, 31)",
        "layers.0.self_attn.v_proj.bias: expected (32,), got (31,)",
    ):
        assert words in str(error.value)


def test_nothing_there_is_answered_with_where_weights_come_from(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"openai/clip-vit-base-patch32[\s\S]*ViT-B-32"):
            clip.read_clip(path)


@pytest.mark.parametrize(
    ("state_dict", "words"),
    [
        ({"visual.layer1.0.conv1.weight": np.zeros(1)}, "no vision transformer"),
        ({"encoder.weight": np.zeros(1)}, "not the weights of a CLIP"),
        ({"vision_model.embeddings.class_embedding": np.zeros(8)}, "cannot be inferred without"),
        ({"model": {"nested": 1}}, "not a state dict"),
    ],
)
def test_other_files_are_refused_with_a_reason(state_dict, words, tmp_path):
    save_torch(tmp_path / "weights.pt", state_dict)
    with pytest.raises(ValueError, match=words):
        clip.read_clip(tmp_path / "weights.pt")


def test_damaged_files_are_refused_by_name(folder, tmp_path):
    data = (folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(data[: len(data) // 2])
    for config, words in (("{}", r"model\.safetensors is no safetensors file"), ("{", "not JSON")):
        (tmp_path / "config.json").write_text(config)
        with pytest.raises(ValueError, match=words):
            clip.read_clip(tmp_path)


def test_a_configuration_of_another_model_is_refused():
    with pytest.raises(ValueError, match="model_type 'bert'"):
        from_huggingface({"model_type": "bert"})
    with pytest.raises(ValueError, match="did you mean 'quick_gelu'"):
        from_huggingface({"text_config": {"hidden_act": "quick_gleu"}})
