"""The hand_pose network beside its numbers: dropout, types, initial weights, clear errors."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxrecipes.compile_quickly import run_once
from jaxrecipes.models.dinov2.config import Dinov2Config
from jaxrecipes.recipes.hand_pose.blocks import ContextAttention, TokenSelfAttention
from jaxrecipes.recipes.hand_pose.constants import decoder_constants
from jaxrecipes.recipes.hand_pose.network import CONSTANTS, HandPose, constants, hand_inputs
from jaxrecipes.recipes.hand_pose.network_config import (
    HandDecoderConfig,
    HandPoseConfig,
    PerspectiveConfig,
    TemporalConfig,
)
from jaxrecipes.recipes.hand_pose.perspective_embedding import viewing_rays
from jaxrecipes.recipes.hand_pose.temporal_refiner import TemporalRefiner

BACKBONE = Dinov2Config(width=8, depth=1, num_heads=2, mlp_ratio=1, image_size=28)
HANDEC = HandDecoderConfig(num_layer=1, num_head=2, dim_head=4, dim_mlp=8, heatmap_resolution=(5,))
CONFIG = HandPoseConfig(
    backbone=BACKBONE,
    img_size=28,
    handec=HANDEC,
    persp_info_embed=PerspectiveConfig(num_sample=2),
    temporal=TemporalConfig(layers=1, heads=2),
    num_frame=2,
)


def stage_1(**changes):
    return dataclasses.replace(CONFIG, temporal=None, num_frame=1, **changes)


def random_inputs(config, batch_size=2):
    generator = np.random.default_rng(0)
    return {
        name: generator.uniform(1.0, 2.0, shape.shape).astype(np.float32)
        for name, shape in hand_inputs(config, batch_size=batch_size).items()
    }


def random_params(shapes):
    """Made by numpy: to draw them with JAX takes long to compile."""
    generator = np.random.default_rng(1)
    return jax.tree.map(lambda s: generator.uniform(-0.5, 0.5, s.shape).astype(s.dtype), shapes)


@pytest.fixture(scope="module")
def params():
    init = HandPose(CONFIG).init_params
    return random_params(jax.eval_shape(init, jax.random.key(0))[0])


@pytest.fixture(scope="module")
def run():
    """Stage 1 in training; `traces` counts how often it was traced."""
    model, traces = HandPose(stage_1()), []

    @jax.jit
    def apply(params, inputs, key, rate, output_rate):
        traces.append(None)
        return model.apply(
            {"params": params},
            inputs,
            train=True,
            dropout_rate=rate,
            output_dropout_rate=output_rate,
            rngs={"dropout": key},
        )

    apply.traces = traces
    return apply


def test_rates_are_data_and_act_apart(params, run):
    inputs, key = random_inputs(stage_1()), jax.random.key(1)
    poses = {
        rates: np.asarray(run(params, inputs, key, *rates)["pose"])
        for rates in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (1.0, 1.0))
    }
    assert len(run.traces) == 1
    assert all(np.isfinite(pose).all() for pose in poses.values())
    none, *others = poses.values()
    for pose in others:
        assert np.abs(pose - none).max() > 1e-4
    every_branch_dropped = poses[1.0, 1.0]
    np.testing.assert_allclose(every_branch_dropped[0], every_branch_dropped[1], atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [
        ({}, 5),
        ({"drop_cls": True}, 4),
        ({"infusion_layer": (0, 1)}, 5),
        ({"backbone": dataclasses.replace(BACKBONE, num_registers=4)}, 5),
    ],
)
def test_decoder_sees_the_class_token_and_patches(changes, tokens):
    config = stage_1(**changes)
    model, inputs = HandPose(config), hand_inputs(config, batch_size=3)

    def features(key, inputs):
        variables = model.init(key, inputs, train=False)
        return model.apply(variables, inputs, train=False, method="features")

    shape = jax.eval_shape(features, jax.random.key(0), inputs).shape
    assert shape == (3, tokens, BACKBONE.width)


@pytest.mark.parametrize(("config", "sites"), [(stage_1(), 6), (CONFIG, 4)])
def test_dropout_acts_in_the_decoder_and_in_stage_2_in_the_refiner_alone(params, config, sites):
    def run(rate):
        rates = {"dropout_rate": rate, "output_dropout_rate": rate}
        variables, rngs = {"params": params}, {"dropout": jax.random.key(0)}
        return HandPose(config).apply(
            variables, random_inputs(config), train=True, rngs=rngs, **rates
        )

    assert str(jax.make_jaxpr(run)(0.5)).count("random_bits[") == sites


def test_dropout_of_the_only_key_drops_whole_heads():
    module, x = TokenSelfAttention(2, 4), jnp.ones((64, 1, 3))
    eye = jnp.eye(8)
    params = {
        "qkv": jnp.ones((3, 24)),
        "out": {"kernel": eye, "bias": jnp.zeros(8)},
    }
    params["out"] = {"kernel": eye[:, ::3], "bias": jnp.zeros(3)}  # a channel of 0, of 0, of 1
    rngs = {"dropout": jax.random.key(0)}
    out = module.apply({"params": params}, x, train=True, dropout_rate=0.5, rngs=rngs)
    first, second, other = (np.asarray(out[:, 0, i]) for i in range(3))
    np.testing.assert_array_equal(first, second)
    assert {*first.tolist(), *other.tolist()} == {0.0, 6.0}
    assert (first != other).any()


def test_attention_to_a_context_is_that_with_keys_and_values():
    module = ContextAttention(2, 4)
    x, context = (jax.random.normal(jax.random.key(i), (2, 3 + i, 5 + i)) for i in range(2))
    init = jax.eval_shape(lambda k: module.init(k, x, context, train=False), jax.random.key(2))
    params = random_params(init)["params"]
    query = (x @ params["q"]["kernel"]).reshape(2, 3, 2, 4)
    key, value = jnp.split((context @ params["kv"]).reshape(2, 4, 4, 4), 2, axis=2)
    probs = jax.nn.softmax(jnp.einsum("bthd,bnhd->bhtn", query, key) / 2.0)
    want = jnp.einsum("bhtn,bnhd->bthd", probs, value).reshape(2, 3, 8)
    want = want @ params["out"]["kernel"] + params["out"]["bias"]
    got = module.apply({"params": params}, x, context, train=False)
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_refiner_sees_no_later_frame_and_no_absolute_time():
    module = TemporalRefiner(TemporalConfig(layers=1, heads=2))
    tokens = np.random.default_rng(0).normal(size=(1, 3, 8)).astype(np.float32)
    times = np.array([[0.0, 33.0, 66.0]], np.float32)
    init = jax.eval_shape(lambda k: module.init(k, tokens, times, train=False), jax.random.key(1))
    variables = random_params(init)
    refine = jax.jit(lambda tokens, times: module.apply(variables, tokens, times, train=False))
    refined, other = refine(tokens, times), tokens + np.array([[[0.0], [0.0], [1.0]]], np.float32)
    np.testing.assert_allclose(refine(other, times)[:, :2], refined[:, :2], rtol=1e-6)
    np.testing.assert_allclose(refine(tokens, times + 2.0**20), refined, atol=1e-6)
    assert np.abs(refine(tokens, 3.0 * times) - refined).max() > 1e-4


def test_new_parameters_start_as_pytorchs():
    fan_in = {
        "handec/decx/kernel": 8,
        "handec/decpose/bias": 8,
        "handec/transformer/token_embedding/kernel": 61,
        "persp_info_embedder/net/layers_0/cross_attn/kv": 4,
        "persp_info_embedder/net/layers_0/mlp/linear2/kernel": 32,
    }
    zeros = ("persp_info_embedder/zero_linear/kernel", "temporal_refiner/zero_linear/kernel")

    def init(key):
        flat = flatten_dict(HandPose(CONFIG).init_params(key)[0], sep="/")
        return {name: flat[name] for name in (*fan_in, *zeros, "handec/init_hand_pose")}

    drawn = run_once(init, jax.random.key(0))  # compiles no other draws
    for name, count in fan_in.items():
        assert 0.5 * count**-0.5 < np.abs(drawn[name]).max() <= count**-0.5, name
    for name in zeros:
        assert not np.asarray(drawn[name]).any()
    assert np.std(drawn["handec/init_hand_pose"]) == pytest.approx(1.0, abs=0.4)


def test_constants_are_told_by_their_paths(params):
    flat = flatten_dict(params, sep="/")
    found = {path for path in flat if any(re.search(p, path) for p in constants(CONFIG))}
    assert found == {
        "handec/init_hand_pose",
        "handec/init_betas",
        "handec/init_cam",
        "backbone/dinov2/mask_token",
    }
    denormed = dataclasses.replace(HANDEC, denorm_output="statistics.npz")
    assert constants(stage_1(handec=denormed)) == CONSTANTS


def test_in_bfloat16_outputs_are_float32_and_close(params, run):
    inputs, model = random_inputs(stage_1()), HandPose(stage_1(), jnp.bfloat16)
    exact = run(params, inputs, jax.random.key(0), 0.0, 0.0)
    rough = jax.jit(lambda p: model.apply({"params": p}, inputs, train=False))(params)
    for name, want in exact.items():
        assert rough[name].dtype == jnp.float32
        np.testing.assert_allclose(rough[name], want, atol=0.05 * np.abs(want).max() + 0.02)


def test_expected_root_lies_within_the_bins_and_maps_are_probabilities(params, run):
    outputs = run(params, random_inputs(stage_1()), jax.random.key(0), 0.0, 0.0)
    for i, (first, last) in enumerate(CONFIG.ranges):
        assert first < outputs["trans"][..., i].min() <= outputs["trans"][..., i].max() < last
    total = np.exp(outputs["log_heatmap_x"]).sum(-1)
    np.testing.assert_allclose(total, np.ones((2, 1)), rtol=1e-5)


def test_mean_hand_and_statistics_are_read_from_files(tmp_path):
    mean, statistics = tmp_path / "mean.npz", tmp_path / "statistics.npz"
    pose = np.tile([1.0, 0, 0, 0, 1, 0], 16).astype(np.float32)
    np.savez(mean, pose=pose, shape=np.arange(10.0), cam=np.ones((1, 3)))
    np.savez(statistics, mean=np.arange(61.0), cov=4.0 * np.eye(61))
    handec = dataclasses.replace(HANDEC, use_mean_init=str(mean), denorm_output=str(statistics))
    config = stage_1(handec=handec)
    shapes = jax.eval_shape(lambda key: HandPose(config).init_params(key)[0], jax.random.key(0))
    read = decoder_constants(config)
    for name, array in read.items():
        assert array.shape == shapes["handec"][name].shape, name
    np.testing.assert_allclose(read["init_hand_pose"], np.zeros(48), atol=1e-6)
    np.testing.assert_array_equal(read["init_betas"], np.arange(10.0))
    np.testing.assert_allclose(read["scale_tril"], 2.0 * np.eye(61), atol=1e-6)
    np.testing.assert_array_equal(read["output_mean"], np.arange(61.0))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pose": np.zeros(96), "shape": np.zeros(10)}, "no `cam`"),
        ({"pose": np.zeros(48), "shape": np.zeros(10), "cam": np.zeros(3)}, r"\[48\].*\[96\]"),
    ],
)
def test_a_file_without_the_mean_hand_is_an_error(tmp_path, arrays, message):
    np.savez(tmp_path / "mean.npz", **arrays)
    handec = dataclasses.replace(HANDEC, use_mean_init=str(tmp_path / "mean.npz"))
    with pytest.raises(ValueError, match=message):
        decoder_constants(stage_1(handec=handec))


def test_rays_run_along_x_first_and_are_unit_vectors():
    box = jnp.array([10.0, 20.0, 30.0, 60.0])
    rays, where = viewing_rays(box, jnp.array([100.0, 50.0]), jnp.array([20.0, 40.0]), 2)
    np.testing.assert_allclose(where[1, 0], [0.75, 0.25])
    ray = np.array([0.05, -0.2, 1.0])
    np.testing.assert_allclose(rays[1, 0], (ray / np.linalg.norm(ray))[:2], rtol=1e-6)


def test_one_number_of_bins_stands_for_three():
    assert HandDecoderConfig(heatmap_resolution=7).heatmap_resolution == (7, 7, 7)
    assert HandDecoderConfig(heatmap_resolution=(7,)).heatmap_resolution == (7, 7, 7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HandDecoderConfig(heatmap_resolution=(7, 7)), "heatmap_resolution"),
        (lambda: HandDecoderConfig(num_head=0), r"HandDecoderConfig\.num_head is 0"),
        (lambda: PerspectiveConfig(pie_fusion="cls"), "no token"),
        (lambda: PerspectiveConfig(type="sense"), "did you mean 'dense'"),
        (lambda: stage_1(img_size=30), "multiple of"),
        (lambda: stage_1(joint_type="6D"), "did you mean '6d'"),
        (lambda: stage_1(infusion_layer=(0, 2)), "0 to 1"),
        (lambda: stage_1(norm_std=(1.0, 0.0, 1.0)), "norm_std"),
        (lambda: dataclasses.replace(CONFIG, temporal=TemporalConfig(heads=8)), "even"),
        (
            lambda: stage_1(
                joint_type="6d", handec=dataclasses.replace(HANDEC, denorm_output="a.npz")
            ),
            "denorm_output",
        ),
    ],
)  # fmt: skip
def test_configurations_that_cannot_be_are_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_patches_of_another_size_are_an_error(params):
    inputs = random_inputs(CONFIG) | {"patch": np.zeros((2, 2, 42, 42, 3), np.float32)}
    with pytest.raises(ValueError, match=r"\[B, T, 28, 28, 3\]"):
        HandPose(CONFIG).apply({"params": params}, inputs, train=False)
