"""The face3d networks compute what the original does: outputs, losses, gradients, statistics."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipes.convert import from_torch, to_torch
from jaxrecipes.losses import cosine_loss, cosine_similarity, mean_squared_error
from jaxrecipes.recipes.face3d.network import face3d, face3d_shapes, inert_parameters
from jaxrecipes.recipes.face3d.network_config import Face3DConfig
from jaxrecipes.recipes.face3d.original import network_config

CASES = ["dec_pose0", "dec_pose1", "dec_noangle", "clipmlp_pose1"]
CASES += ["kp_sp0_pose0", "kp_sp1_pose1", "encdec_pe0", "encdec_pe1", "warp_full", "warp_min"]

OUTPUTS = 1e-5  # absolute; reached: 9e-7
LOSSES = 1e-5  # relative; reached: 4e-7
GRADIENTS = 1e-4  # of the tensor's largest element
ROUNDING = 1e-6  # of gradients that are 0 but for rounding: the bias before a BatchNorm


def state_dict_of(arrays: dict[str, np.ndarray], prefix: str = "sd/") -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


@pytest.fixture(scope="module", params=CASES)
def case(request, golden):
    """Golden arrays of a case, and the same quantities computed here in one program."""
    arrays = golden(f"face3d/{request.param}")
    cfg = golden.json(arrays["cfg"])
    model, params, batch_stats = from_torch("face3d", state_dict_of(arrays), cfg)
    inputs = {k[3:]: v for k, v in arrays.items() if k in ("in/src", "in/pose", "in/keypoints_3d")}
    stats = {"batch_stats": batch_stats} if batch_stats else {}

    @jax.jit
    def compute(params, inputs, target):
        def objective(params, inputs):
            full, updated = model.apply(
                {"params": params, **stats}, inputs, train=True, mutable=["batch_stats"]
            )
            mse, cosine = mean_squared_error(full, target).mean(), cosine_loss(full, target).mean()
            total = cfg["mse_weight"] * mse + cfg["cosine_weight"] * cosine
            return total, (full, {"mse": mse, "cosine": cosine, "total": total}, dict(updated))

        both = jax.grad(objective, argnums=(0, 1), has_aux=True)
        (grads, grads_in), (full, losses, updated) = both(params, inputs)
        evaluated = model.apply({"params": params, **stats}, inputs, train=False)
        return evaluated, full, losses, grads, grads_in, updated.get("batch_stats", {})

    results = compute(params, inputs, arrays["in/tgt"])
    config = network_config(cfg, params)
    return arrays, golden(f"face3d/{request.param}_grads"), cfg, config, params, results


def test_evaluation_outputs(case):
    arrays, _, _, _, _, (output, *_) = case
    np.testing.assert_allclose(output, arrays["eval64/full"], atol=OUTPUTS, rtol=0)
    cosine = cosine_similarity(output, arrays["in/tgt"]).mean()
    np.testing.assert_allclose(cosine, arrays["val_cosine_similarity"], atol=OUTPUTS)


def test_training_outputs_and_losses_without_dropout(case):
    arrays, _, _, _, _, (_, full, losses, *_) = case
    np.testing.assert_allclose(full, arrays["trainp0_64/full"], atol=OUTPUTS, rtol=0)
    for name, value in losses.items():
        np.testing.assert_allclose(value, arrays[f"loss/{name}"], rtol=LOSSES)


def test_gradients_and_those_of_inert_parameters_are_exactly_zero(case):
    _, grad_arrays, cfg, config, _, (_, _, _, grads, grads_in, statistics) = case
    wanted = state_dict_of(grad_arrays, "grad/")
    marks = jax.tree_util.tree_map_with_path(
        lambda path, g: np.full(g.shape, is_inert(config, path)), grads
    )
    is_zero = to_torch("face3d", marks, statistics, cfg)
    for key, got in to_torch("face3d", grads, statistics, cfg).items():
        if key not in wanted:  # statistics
            continue
        want, inert = wanted[key], is_zero[key].astype(bool)
        np.testing.assert_array_equal(got[inert], 0)
        np.testing.assert_allclose(want[inert], 0, atol=ROUNDING)
        limit = max(GRADIENTS * np.abs(want).max(), ROUNDING * (key == "keypoint_encoder.0.bias"))
        np.testing.assert_allclose(got[~inert], want[~inert], atol=limit, rtol=0, err_msg=key)
    for name in ("src", "pose"):
        want = grad_arrays[f"grad_in/{name}"]
        atol = GRADIENTS * np.abs(want).max()
        np.testing.assert_allclose(grads_in[name], want, atol=atol, rtol=0, err_msg=name)


def test_statistics_after_one_training_pass(case):
    _, grad_arrays, cfg, _, params, (*_, statistics) = case
    wanted = state_dict_of(grad_arrays, "buffers_after_one_train_forward/")
    ours = to_torch("face3d", params, statistics, cfg)
    for key, want in wanted.items():
        np.testing.assert_allclose(ours[key], want, rtol=1e-5, atol=1e-6, err_msg=key)
    assert bool(wanted) == bool(statistics)


def is_inert(config: Face3DConfig, path: tuple) -> bool:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return any(re.search(pattern, name) for pattern in inert_parameters(config))


@pytest.mark.parametrize("name", ["dec_noangle", "encdec_pe0", "warp_full"])
def test_residuals(golden, name):
    arrays = golden(f"face3d/{name}")
    model, params, _ = from_torch("face3d", state_dict_of(arrays), golden.json(arrays["cfg"]))
    inputs = {"src": arrays["in/src"], "pose": arrays["in/pose"]}
    residual = jax.jit(
        lambda p, x: model.apply({"params": p}, x, train=False, return_residual=True)
    )(params, inputs)
    np.testing.assert_allclose(residual, arrays["eval64/residual"], atol=OUTPUTS, rtol=0)


@pytest.mark.parametrize("name", ["dec_pose1", "encdec_pe1"])
def test_without_a_pose_the_first_three_angles_are_taken(golden, name):
    arrays = golden(f"face3d/{name}")
    cfg = golden.json(arrays["cfg"])
    model, params, _ = from_torch("face3d", state_dict_of(arrays), cfg)
    inputs = {"src": arrays["in/src"], "angles": arrays["in/angles5"]}
    full = jax.jit(lambda p, x: model.apply({"params": p}, x, train=False))(params, inputs)
    np.testing.assert_allclose(full, arrays["eval64/full_angles5"], atol=OUTPUTS, rtol=0)


INITIAL = {
    "dec_pose1": Face3DConfig(use_pose_attention=True),
    "kp_sp1_pose1": Face3DConfig(use_spatial_attention=True, use_pose_attention=True),
    "encdec": Face3DConfig(model_type="encoder_decoder"),
    "warp": Face3DConfig(model_type="angle_warping"),
}


@pytest.mark.parametrize("name", INITIAL)
def test_tensors_of_default_size_have_the_originals_names_shapes_and_order(golden, name):
    arrays, config = golden("face3d/init_default"), INITIAL[name]
    shapes = face3d_shapes(config)
    zeros = jax.tree.map(lambda s: np.broadcast_to(np.zeros((), s.dtype), s.shape), shapes)
    ours = to_torch("face3d", zeros["params"], zeros.get("batch_stats", {}), config)
    assert list(ours) == golden.json(arrays[f"{name}/keys"])
    assert [list(a.shape) for a in ours.values()] == golden.json(arrays[f"{name}/shapes"])


@pytest.mark.parametrize("name", ["kp_sp1_pose1", "warp"])
def test_initial_values_are_spread_as_the_originals(golden, name):
    arrays = golden("face3d/init_default")
    config = dataclasses.replace(INITIAL[name], num_layers=1)  # the others are drawn alike
    statistics = zip(golden.json(arrays[f"{name}/keys"]), arrays[f"{name}/stats"], strict=True)
    inputs = {
        "src": jnp.zeros((2, 512)),
        "pose": jnp.zeros((2, 3)),
        "keypoints_3d": jnp.zeros((2, 5, 3)),
    }
    init = jax.jit(lambda key: face3d(config).init(key, inputs, train=False))
    variables = init(jax.random.key(0))
    ours = to_torch("face3d", variables["params"], variables.get("batch_stats", {}), config)
    for key, (mean, std, _, high, count) in statistics:
        if key not in ours:
            continue
        array = ours[key]
        if count == 1:  # one draw
            assert np.abs(array) <= 3 * max(np.abs(high), 1 / np.sqrt(config.d_model))
            continue
        error = 12 * std / np.sqrt(count)
        np.testing.assert_allclose(array.mean(), mean, atol=error + 1e-7, err_msg=key)
        np.testing.assert_allclose(array.std(), std, atol=error + 1e-7, err_msg=key)
        if count > 1000 and high < 1.9 * std:  # uniform: ends where the original's ends
            np.testing.assert_allclose(np.abs(array).max(), high, rtol=0.02, err_msg=key)


def test_feed_forward_biases_start_equal_in_all_layers_of_a_stack():
    config = Face3DConfig(d_model=16, nhead=2, num_layers=2, dim_feedforward=8)
    inputs = {"src": np.zeros((1, 16)), "pose": np.zeros((1, 3))}
    init = jax.jit(lambda key: face3d(config).init(key, inputs, train=False))
    params = init(jax.random.key(0))["params"]
    first, second = (params["transformer_decoder"][f"layers_{i}"] for i in (0, 1))
    for name in ("linear1", "linear2"):
        np.testing.assert_array_equal(first[name]["bias"], second[name]["bias"])
        assert np.any(first[name]["kernel"] != second[name]["kernel"])
