"""The formulations for CPU and for other backends agree, and written-out pullbacks are right."""

import functools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxrecipes import nn as layers
from jaxrecipes.nn import depthwise_cpu
from jaxrecipes.nn.conv import conv_as_matmul, conv_as_matmul_pullback, conv_native
from jaxrecipes.nn.depthwise import depthwise_native, depthwise_pullback_native


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def assert_same_vjp(ours, plain, primals, g):
    def run(function):
        y, pullback = jax.vjp(function, *primals)
        return y, pullback(g)

    assert_close(jax.jit(lambda: run(ours))(), jax.jit(lambda: run(plain))())


def assert_close(got, want, rtol=1e-5):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, atol=rtol * float(jnp.abs(b).max()))


@pytest.mark.parametrize("size", [(9, 13), (8, 12)])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_as_matmul_equals_the_native_one(size, stride):
    x, kernel = arrays((2, *size, 3), (3, 3, 3, 5))
    (g,) = arrays(jax.eval_shape(lambda: conv_native(x, kernel, stride, 1)).shape)

    @jax.jit
    def native(x, kernel, g):
        y, pullback = jax.vjp(lambda x, k: conv_native(x, k, stride, 1), x, kernel)
        return y, pullback(g)

    @jax.jit
    def as_matmul(x, kernel, g):
        y = conv_as_matmul(x, kernel, stride, 1)
        return y, conv_as_matmul_pullback(x, kernel, g, stride, 1)

    assert_close(as_matmul(x, kernel, g), native(x, kernel, g))


def compare_depthwise(size, kernel_size, stride):
    x, kernel = arrays((3, *size, 4), (kernel_size, kernel_size, 4))
    (g,) = arrays(jax.eval_shape(lambda: depthwise_native(x, kernel, stride)).shape)

    @jax.jit
    def native(x, kernel, g):
        pullback = depthwise_pullback_native(x, kernel, g, stride)
        return depthwise_native(x, kernel, stride), pullback

    @jax.jit
    def ours(x, kernel, g):
        pullback = depthwise_cpu.depthwise_pullback(x, kernel, g, stride)
        return depthwise_cpu.depthwise(x, kernel, stride), pullback

    assert_close(ours(x, kernel, g), native(x, kernel, g))


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride"),
    [
        ((9, 13), 3, 1),
        ((9, 13), 3, 2),
        ((8, 12), 3, 2),
        ((1, 1), 3, 2),
        ((4, 6), 3, 1),
        ((5, 9), 7, 1),
        ((2, 2), 7, 1),
    ],
)
def test_depthwise_formulations_agree(size, kernel_size, stride):
    compare_depthwise(size, kernel_size, stride)


def test_large_kernels_on_large_maps_are_shifts_too(monkeypatch):
    monkeypatch.setattr(depthwise_cpu, "_MAX_PIXELS", 0)
    compare_depthwise((4, 9), 5, 1)


def plain_batch_norm(x, scale, bias, residual, activation):
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    u = (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias
    u = u if residual is None else u + residual
    return {"relu": jax.nn.relu, "silu": jax.nn.silu, None: lambda u: u}[activation](u)


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("activation", ["relu", "silu", None])
def test_fused_batch_norm_has_the_gradients_of_the_plain_one(activation, with_residual):
    x, scale, bias, residual, g = arrays((4, 5, 3, 6), (6,), (6,), (4, 5, 3, 6), (4, 5, 3, 6))
    residual = residual if with_residual else None

    def fused(*args):
        return layers.batch_norm_act(*args, 1e-5, activation)[0]

    plain = functools.partial(plain_batch_norm, activation=activation)
    assert_same_vjp(fused, plain, (x, scale, bias, residual), g)


@pytest.mark.parametrize(
    ("ours", "plain"),
    [
        (layers.gelu, functools.partial(jax.nn.gelu, approximate=False)),
        (layers.silu, jax.nn.silu),
        (lambda x: layers.global_max(x[:, :, None, None]), lambda x: x.max(1, keepdims=True)),
    ],
)
def test_written_out_pullbacks_equal_autodiff(ours, plain):
    (x,) = arrays((40, 30))
    (g,) = arrays(jax.eval_shape(plain, x).shape)
    assert_same_vjp(ours, plain, (3 * x,), g)


def test_layer_norm_has_the_gradients_of_the_plain_one():
    def plain(x, scale, bias):
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias

    x, scale, bias, g = arrays((4, 5, 7), (7,), (7,), (4, 5, 7))
    assert_same_vjp(lambda *a: layers.layer_norm(*a, 1e-5), plain, (x, scale, bias), g)


@pytest.mark.parametrize("function", [layers.gelu, layers.silu])
def test_activation_gradients_are_finite_far_out(function):
    x = jnp.array([-1e4, -100.0, 0.0, 100.0, 1e4])
    np.testing.assert_allclose(jax.vmap(jax.grad(function))(x), [0, 0, 0.5, 1, 1], atol=1e-6)


def test_batch_norm_refuses_one_value_per_channel_in_training():
    norm = layers.BatchNorm()
    variables = norm.init(jax.random.key(0), jnp.ones((1, 3)), train=False)
    with pytest.raises(ValueError, match=r"more than one value per channel, got \(1, 3\)"):
        norm.apply(variables, jnp.ones((1, 3)), train=True, mutable=["batch_stats"])


def test_batch_norm_does_not_change_the_callers_arrays():
    norm = layers.BatchNorm()
    variables = norm.init(jax.random.key(0), jnp.ones((2, 3)), train=False)
    variables = jax.tree.map(np.array, variables)  # writable
    train = functools.partial(norm.apply, variables, train=True, mutable=["batch_stats"])
    train(jnp.arange(6.0).reshape(2, 3))
    assert variables["batch_stats"]["num_batches_tracked"] == 0
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], np.zeros(3))


def test_depthwise_refuses_kernels_it_has_no_formulation_for():
    (x,) = arrays((1, 8, 8, 4))
    with pytest.raises(ValueError, match="odd k"):
        layers.depthwise_conv(x, jnp.ones((2, 2, 4)))
    with pytest.raises(ValueError, match="stride 1, or stride 2 with k = 3"):
        layers.depthwise_conv(x, jnp.ones((5, 5, 4)), 2)
    with pytest.raises(ValueError, match="do not divide"):
        layers.SelfAttention(3).init(jax.random.key(0), jnp.ones((1, 2, 4)), train=False)


def test_softmax_and_its_pullback():
    x, g = arrays((2, 3, 7), (2, 3, 7))
    x = x.at[0, 0, 0].set(-1e30)  # a key that is not seen
    assert_same_vjp(layers.softmax, jax.nn.softmax, [10.0 * x], g)
