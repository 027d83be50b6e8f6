"""DINOv2 against Hugging Face: per block, end to end, positions in three flavours, gradients."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxrecipes.models.dinov2.network import (
    Dinov2,
    Dinov2Config,
    dinov2_config,
    interpolate_positions,
    without_registers,
)
from jaxrecipes.models.dinov2.weights import from_torch, to_torch
from jaxrecipes.nn import remat_blocks

MLP = Dinov2Config(width=16, depth=2, num_heads=2, mlp_ratio=2.0, image_size=70)
SWIGLU = dataclasses.replace(MLP, mlp_ratio=4.0, swiglu=True)
REGISTERS = dataclasses.replace(MLP, num_registers=4)
FLAVOURS = {"hf": "hf", "antialias": "antialias", "official_offset01": "official"}


@pytest.fixture(scope="module")
def arrays(golden):
    return golden("hand_pose/dinov2_mlp")


@pytest.fixture(scope="module")
def params(arrays):
    return load(arrays, MLP)


def load(arrays, config):
    return from_torch({k[3:]: a for k, a in arrays.items() if k.startswith("sd/")}, config)[1]


def nhwc(pixels):
    return pixels.transpose(0, 2, 3, 1)


@functools.partial(jax.jit, static_argnums=(0, 3))
def run(config, params, images, dtype=jnp.float32):
    model = Dinov2(config, dtype)
    return model.apply({"params": params}, images, method=Dinov2.with_hidden_states)


@pytest.fixture(scope="module")
def derived(arrays, params):
    """(tokens, hidden states, gradients of all parameters)."""
    method = functools.partial(Dinov2(MLP).apply, method=Dinov2.with_hidden_states)
    images = nhwc(arrays["in/pixel_values"])

    @jax.jit
    def derive(params):
        tokens, pullback, states = jax.vjp(
            lambda params: method({"params": params}, images), params, has_aux=True
        )
        return tokens, states, pullback(arrays["in/cotangent"])[0]

    return derive(params)


def assert_close(ours, theirs, atol=5e-6):
    np.testing.assert_allclose(ours, theirs, atol=atol)


def test_tokens_equal_hugging_face_block_by_block(arrays, derived):
    tokens, states, _ = derived
    assert len(states) == 3
    for i, state in enumerate(states):
        assert_close(state, arrays[f"out/hidden_{i}"])
    assert_close(tokens, arrays["out/last_hidden_state"])


def test_images_of_the_tables_own_size_equal_hugging_face(arrays, params):
    tokens, _ = run(MLP, params, nhwc(arrays["in/pixel_values_native"]))
    assert_close(tokens, arrays["out/last_hidden_state_native"])


@pytest.mark.parametrize(("name", "config"), [("swiglu", SWIGLU), ("registers", REGISTERS)])
def test_gated_and_registered_networks_equal_hugging_face(golden, name, config):
    arrays = golden(f"hand_pose/dinov2_{name}")
    tokens, _ = run(config, load(arrays, config), nhwc(arrays["in/pixel_values"]))
    assert_close(tokens, arrays["out/last_hidden_state"])


def test_positions_equal_all_three_flavours(golden):
    arrays = golden("hand_pose/pos_embed_interp")
    table = arrays["in/pos_embed"][0]
    for theirs, ours in FLAVOURS.items():
        for grid in (16, 48):
            positions = interpolate_positions(table, grid, ours)
            patches = np.asarray(positions[1:]).reshape(1, grid, grid, -1)
            assert_close(patches, arrays[f"out/{theirs}_{grid}"], 2e-6)
            np.testing.assert_array_equal(positions[0], table[0])


@pytest.mark.parametrize(("name", "config"), [("mlp", MLP), ("registers", REGISTERS)])
def test_each_kind_of_network_takes_the_flavour_of_hugging_face(golden, name, config):
    arrays = golden(f"hand_pose/dinov2_{name}")
    table = load(arrays, config)["position_embedding"]
    positions = interpolate_positions(table, 4, config.interpolation)
    assert_close(positions, arrays["out/pos_interp"][0], 2e-6)
    assert dataclasses.replace(config, pos_interp="official").interpolation == "official"


def test_positions_of_the_same_grid_are_left_alone():
    table = jnp.arange(20.0).reshape(10, 2)
    for flavour in FLAVOURS.values():
        assert interpolate_positions(table, 3, flavour) is table


def test_gradients_equal_hugging_face(arrays, derived):
    ours = to_torch(derived[2], {}, MLP)
    theirs = {key[5:]: array for key, array in arrays.items() if key.startswith("grad/")}
    assert len(theirs) == 8
    for key, array in theirs.items():
        scale = np.abs(array).max()
        np.testing.assert_allclose(ours[key] / scale, array / scale, atol=1e-5, err_msg=key)
    assert not ours["embeddings.mask_token"].any()


def cls_pullback(config, params, images):
    """Gradients of the class token alone: those of weights would take long to compile."""

    def tokens(cls_token):
        inputs = {"params": {**params, "cls_token": cls_token}}
        return Dinov2(config).apply(inputs, images)

    return jax.vjp(tokens, params["cls_token"])[1]


def test_remat_keeps_less_and_changes_no_gradient(arrays, params):
    images = nhwc(arrays["in/pixel_values"])

    def kept():
        shapes = jax.eval_shape(lambda *args: cls_pullback(MLP, *args), params, images)
        return sum(leaf.size for leaf in jax.tree.leaves(shapes))

    whole = kept()
    with remat_blocks():
        assert kept() < 0.5 * whole
        pullback = jax.jit(lambda g: cls_pullback(MLP, params, images)(g)[0])
        gradient = pullback(arrays["in/cotangent"])
    theirs = arrays["grad/embeddings.cls_token"][0]
    assert_close(gradient, theirs, 1e-5 * np.abs(theirs).max())


def test_bfloat16_gives_bfloat16_tokens_near_those_of_float32(arrays, params):
    config = dataclasses.replace(MLP, depth=1)
    images = nhwc(arrays["in/pixel_values"])
    _, states = run(config, params, images, jnp.bfloat16)
    assert states[1].dtype == jnp.bfloat16
    assert_close(states[1].astype(jnp.float32), arrays["out/hidden_1"], 0.1)


def test_without_registers_keeps_class_token_and_patches():
    tokens = jnp.arange(7.0)[None, :, None]
    assert without_registers(tokens, 4)[0, :, 0].tolist() == [0, 5, 6]
    assert without_registers(tokens, 0) is tokens


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 28, 42, 3), "square images, got 28x42"),
        ((1, 30, 30, 3), r"whole patches of 14: resize them, for instance to 28x28"),
        ((1, 3, 28, 28), r"expected images \[B, S, S, 3\], got the shape \(1, 3, 28, 28\)"),
    ],
)
def test_images_that_do_not_fit_are_refused(params, shape, words):
    with pytest.raises(ValueError, match=words):
        run(MLP, params, jnp.zeros(shape))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_heads": 3}, "3 heads do not divide the width 16"),
        ({"depth": 0}, "depth is 0; expected 1 <= depth"),
        ({"image_size": 71}, "71 is not a multiple of patch_size 14"),
        ({"pos_interp": "offical"}, "did you mean 'official'"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(MLP, **changes)


@pytest.mark.parametrize(
    ("size", "registers", "parameters"),
    [
        ("vit_s_14", 0, 22056576),
        ("vit_b_14", 4, 86583552),
        ("vit_l_14", 0, 304368640),
        ("vit_g_14", 0, 1136480768),
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(size, registers, parameters):
    config = dinov2_config(size, num_registers=registers)
    images = jax.ShapeDtypeStruct((1, 14, 14, 3), jnp.float32)
    first = Dinov2(dataclasses.replace(config, depth=1))  # blocks are equal
    shapes = jax.eval_shape(first.init, jax.random.key(0), images)["params"]

    def count(tree):
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    assert count(shapes) + (config.depth - 1) * count(shapes["blocks_0"]) == parameters


def test_a_misspelt_size_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'vit_s_14'"):
        dinov2_config("vits14")
