"""Layers against PyTorch's outputs."""

import jax
import numpy as np
import pytest

from jaxrecipes import nn as layers
from jaxrecipes.convert.rules import CONV, DEPTHWISE


@pytest.fixture(scope="module")
def arrays(golden):
    return golden("torch_semantics/layers")


def nhwc(x):
    return np.moveaxis(x, -3, -1)


@pytest.mark.parametrize("name", ["bn2d", "bn1d"])
def test_batch_norm_equals_torch_over_three_training_passes(arrays, name):
    x = nhwc(arrays["x"]) if name == "bn2d" else arrays["x"].mean((2, 3))
    layout = nhwc if name == "bn2d" else np.asarray
    before = {key: arrays[f"{name}/before/{key}"] for key in ("weight", "bias")}
    params = {"scale": before["weight"], "bias": before["bias"]}

    def stats(moment):
        return {
            "mean": arrays[f"{name}/{moment}/running_mean"],
            "var": arrays[f"{name}/{moment}/running_var"],
            "num_batches_tracked": np.int32(arrays[f"{name}/{moment}/num_batches_tracked"]),
        }

    norm, batch_stats = layers.BatchNorm(), stats("before")
    y = norm.apply({"params": params, "batch_stats": batch_stats}, x, train=False)
    np.testing.assert_allclose(y, layout(arrays[f"{name}/eval"]), atol=2e-6)
    for i in range(3):
        variables = {"params": params, "batch_stats": batch_stats}
        y, new = norm.apply(variables, x * (i + 1), train=True, mutable=["batch_stats"])
        batch_stats = new["batch_stats"]
        np.testing.assert_allclose(y, layout(arrays[f"{name}/train3"][i]), atol=3e-6)
    for moment, want in stats("after3").items():
        np.testing.assert_allclose(batch_stats[moment], want, rtol=3e-6)


@pytest.mark.parametrize("eps", ["1e-5", "1e-6"])
def test_layer_norm_equals_torch(arrays, eps):
    y = layers.layer_norm(arrays["x"], arrays["ln/weight"], arrays["ln/bias"], float(eps))
    np.testing.assert_allclose(y, arrays[f"ln/eps{eps}"], atol=2e-6)


@pytest.mark.parametrize(("name", "function"), [("gelu_exact", layers.gelu), ("silu", layers.silu)])
def test_activations_equal_torch(arrays, name, function):
    np.testing.assert_allclose(function(arrays["act/x"]), arrays[f"act/{name}"], atol=1e-6)


@pytest.mark.parametrize("size", ["9x13", "8x12"])
@pytest.mark.parametrize(
    ("kind", "stride", "padding"),
    [("k3s2p1", 2, 1), ("k3s1p1", 1, 1), ("k2s2p0", 2, 0), ("k4s4p0", 4, 0), ("k7s1p3", 1, 3)],
)
def test_convolutions_equal_torch(arrays, kind, size, stride, padding):
    x, weight, bias, y = (
        arrays[f"conv/{kind}/{size}/{part}"] for part in ("x", "weight", "bias", "y")
    )
    conv = layers.Conv(
        weight.shape[0], weight.shape[2], stride=stride, padding=padding, use_bias=True
    )
    params = {"kernel": CONV.to_jax(weight), "bias": bias}
    np.testing.assert_allclose(conv.apply({"params": params}, nhwc(x)), nhwc(y), atol=5e-6)


def test_depthwise_convolution_equals_torch(arrays):
    y = layers.depthwise_conv(nhwc(arrays["dw/x"]), DEPTHWISE.to_jax(arrays["dw/weight"]), 2)
    np.testing.assert_allclose(y, nhwc(arrays["dw/y"]), atol=2e-6)


def test_transformer_encoder_layer_equals_torch(arrays):
    weights = {key[7:]: array for key, array in arrays.items() if key.startswith("tel/sd/")}

    def linear(name, weight="{}.weight", bias="{}.bias"):
        return {"kernel": weights[weight.format(name)].T, "bias": weights[bias.format(name)]}

    attention = "self_attn."
    params = {
        "self_attn": {
            "in_proj": linear(attention, "{}in_proj_weight", "{}in_proj_bias"),
            "out_proj": linear(f"{attention}out_proj"),
        },
        "linear1": linear("linear1"),
        "linear2": linear("linear2"),
    }
    for name in ("norm1", "norm2"):
        params[name] = {"scale": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]}
    layer = layers.EncoderLayer(int(arrays["tel/nhead"]), weights["linear1.bias"].size)
    y = jax.jit(lambda p, x: layer.apply({"params": p}, x, train=False))(params, arrays["tel/x"])
    np.testing.assert_allclose(y, arrays["tel/y"], atol=3e-6)
