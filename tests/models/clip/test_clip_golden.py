"""CLIP against Hugging Face's and open_clip's outputs: per block, end to end, and gradients."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxrecipes.losses.similarity import unit
from jaxrecipes.models.clip.network import PUBLISHED, Clip, ClipText, ClipVision, resize_positions
from jaxrecipes.models.clip.weights import read_clip, to_torch


@pytest.fixture(scope="module")
def arrays(golden):
    return golden("clip_iqa/clip_hf")


@pytest.fixture(scope="module")
def clip(golden):
    return read_clip(golden.path / "clip_iqa/hf_tiny")


def nhwc(pixels):
    return pixels.transpose(0, 2, 3, 1)


def vision(config, params, dtype=jnp.float32):
    """Images to (output, inner variables) of the image tower."""
    model = ClipVision(config.vision, config.projection_dim, dtype)
    return functools.partial(_run, model, params["vision"])


def text(config, params):
    """Token ids, and a mask, to (output, inner variables) of the text tower."""
    model = ClipText(config.text, config.projection_dim)
    return functools.partial(_run, model, params["text"])


@functools.partial(jax.jit, static_argnums=0)
def _run(model, params, *inputs):
    return model.apply({"params": params}, *inputs, capture_intermediates=True)


def inputs(arrays):
    return {key: arrays[key] for key in ("pixel_values", "input_ids", "attention_mask")}


def outputs_of_blocks(variables, depth):
    return [variables["intermediates"][f"blocks_{i}"]["__call__"][0] for i in range(depth)]


def assert_close(ours, theirs, atol=5e-6):
    np.testing.assert_allclose(ours, theirs, atol=atol)


def test_image_tower_equals_hugging_face_block_by_block(arrays, clip):
    images = nhwc(arrays["pixel_values"])
    output, inner = vision(*clip)(images)
    assert_close(inner["intermediates"]["pre_norm"]["__call__"][0], arrays["vision_hidden/0"])
    for i, tokens in enumerate(outputs_of_blocks(inner, clip[0].vision.depth)):
        assert_close(tokens, arrays[f"vision_hidden/{i + 1}"])
    assert_close(output.tokens, arrays["out/vision_last_hidden"])
    assert_close(output.pooled, arrays["out/vision_pooler"])
    assert_close(output.features, arrays["out/image_features"])


def test_text_tower_equals_hugging_face_block_by_block(arrays, clip):
    output, inner = text(*clip)(arrays["input_ids"], arrays["attention_mask"])
    for i, tokens in enumerate(outputs_of_blocks(inner, clip[0].text.depth)):
        assert_close(tokens, arrays[f"text_hidden/{i + 1}"])
    assert_close(output.tokens, arrays["out/text_last_hidden"])
    assert_close(output.pooled, arrays["out/text_pooler"])
    assert_close(output.features, arrays["out/text_features"])


def test_without_a_mask_only_the_padding_tokens_change(arrays, clip):
    masked, _ = text(*clip)(arrays["input_ids"], arrays["attention_mask"])
    free, _ = text(*clip)(arrays["input_ids"])
    assert_close(free.tokens, arrays["nomask/text_last_hidden"])
    np.testing.assert_array_equal(free.features, masked.features)


@functools.partial(jax.jit, static_argnums=0)
def compare(config, params, arrays):
    images = nhwc(arrays["pixel_values"])
    return Clip(config).apply(
        {"params": params}, images, arrays["input_ids"], arrays["attention_mask"]
    )


def test_logits_equal_hugging_face(arrays, clip):
    output = compare(*clip, inputs(arrays))
    assert_close(output.image_embeds, arrays["out/image_embeds"])
    assert_close(output.text_embeds, arrays["out/text_embeds"])
    assert_close(output.logits_per_image, arrays["out/logits_per_image"], 1e-5)


def test_exact_gelu_towers_equal_hugging_face(arrays, golden):
    clip = read_clip(golden.path / "clip_iqa/hf_tiny", activation="gelu")
    output = compare(*clip, inputs(arrays))
    assert_close(output.image_embeds, arrays["gelu/image_embeds"])
    assert_close(output.text_embeds, arrays["gelu/text_embeds"])


@pytest.mark.parametrize("rule", ["first_eos", "argmax"])
def test_a_text_is_pooled_at_its_first_end_token_or_at_its_highest_id(arrays, clip, rule):
    config, params = clip
    end = int(arrays["eos/eos_token_id"]) if rule == "first_eos" else None
    config = dataclasses.replace(config, text=dataclasses.replace(config.text, end_token_id=end))
    output, _ = text(config, params)(arrays["eos/input_ids"], arrays["attention_mask"])
    embeds = unit(output.features)
    assert_close(embeds, arrays[f"eos/text_embeds_{rule}"])


def test_positions_are_resized_as_hugging_face_does(arrays, clip):
    config, params = clip
    images = nhwc(arrays["interp/pixel_values"])
    tower = dataclasses.replace(config.vision, image_size=images.shape[1])
    resized = {"vision": resize_positions(params["vision"], tower.grid)}
    output, _ = vision(dataclasses.replace(config, vision=tower), resized)(images)
    assert_close(output.features, arrays["interp/image_features"])


def test_resizing_positions_to_their_own_size_changes_nothing(clip):
    config, params = clip
    same = resize_positions(params["vision"], config.vision.grid)
    assert_close(same["position_embedding"], params["vision"]["position_embedding"], 1e-7)


def test_contrastive_gradients_equal_hugging_face(arrays, clip, golden):
    config, params = clip

    def loss(params):
        logits = compare(config, params, inputs(arrays)).logits_per_image
        cross_entropy = optax.softmax_cross_entropy_with_integer_labels
        labels = jnp.arange(len(logits))
        return (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)).mean() / 2

    value, gradients = jax.jit(jax.value_and_grad(loss))(params)
    assert_close(value, arrays["out/contrastive_loss"])
    ours = to_torch(gradients, {}, config)
    for key, theirs in golden("clip_iqa/contrastive_grads").items():
        np.testing.assert_allclose(ours[key], theirs, atol=2e-6, rtol=1e-4, err_msg=key)


def test_bfloat16_keeps_parameters_and_features_in_float32(arrays, clip):
    config, params = clip
    output, _ = vision(config, params, jnp.bfloat16)(nhwc(arrays["pixel_values"]))
    assert output.features.dtype == jnp.float32
    assert output.tokens.dtype == jnp.bfloat16
    assert_close(output.features, arrays["out/image_features"], 0.1)


def test_images_of_another_size_and_long_texts_are_refused(clip):
    with pytest.raises(ValueError, match="images of 32x32 pixels, got 40x40"):
        vision(*clip)(jnp.zeros((1, 40, 40, 3)))
    with pytest.raises(ValueError, match="17 tokens, this CLIP takes 16"):
        text(*clip)(jnp.zeros((1, 17), jnp.int32))


@pytest.mark.parametrize(("name", "parameters"), [("B/32", 151277313), ("L/14@336", 427944193)])
def test_published_sizes_have_the_published_number_of_parameters(name, parameters):
    config = PUBLISHED[f"ViT-{name}"]
    size = config.vision.image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    token_ids = jax.ShapeDtypeStruct((1, 77), jnp.int32)
    shapes = jax.eval_shape(Clip(config).init, jax.random.key(0), images, token_ids)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == parameters
