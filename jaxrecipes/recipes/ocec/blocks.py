"""Stems and blocks of the three OCEC backbones."""

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.broadcasting import aligned
from jaxrecipes.nn import (
    BatchNorm,
    Conv,
    DepthwiseConv,
    DropPath,
    LayerNorm,
    Linear,
    Rate,
    gelu,
    global_mean,
    silu,
)
from jaxrecipes.nn.batch_norm import Activation
from jaxrecipes.nn.dropout import is_static_zero
from jaxrecipes.nn.initializers import kaiming_normal_fan_out, uniform_fan_in

NORM_EPS = 1e-6  # of the convnext backbone's LayerNorms; the heads have 1e-5
GAMMA_INIT = 1e-6  # of the per-channel factor at the end of a ConvNeXt block


def pointwise(features: int, dtype: DTypeLike, name: str) -> Linear:
    """1x1 convolution without bias, initialised as a convolution."""
    init = kaiming_normal_fan_out(features)
    return Linear(features, use_bias=False, kernel_init=init, dtype=dtype, name=name)


def norm_add_activate(
    branch: jax.Array,
    x: jax.Array,
    *,
    activation: Activation,
    train: bool,
    drop_path_rate: Rate,
    dtype: DTypeLike,
    name: str,
) -> jax.Array:
    """End of a block: BatchNorm, drop path, the block's input where shapes agree, activation."""
    residual = x if x.shape == branch.shape else None
    if residual is None or not train or is_static_zero(drop_path_rate):
        norm = BatchNorm(activation, dtype=dtype, name=name)
        return norm(branch, train=train, residual=residual)
    branch = BatchNorm(dtype=dtype, name=name)(branch, train=train)
    total = DropPath()(branch, drop_path_rate, train=train) + residual
    return nn.relu(total) if activation == "relu" else silu(total)


class BaselineStem(nn.Module):
    """3x3 convolution of stride 2, BatchNorm, ReLU."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = Conv(self.features, 3, stride=2, padding=1, dtype=self.dtype, name="conv")(x)
        return BatchNorm("relu", dtype=self.dtype, name="norm")(x, train=train)


class BaselineBlock(nn.Module):
    """Depthwise separable convolution: depthwise 3x3, then 1x1, with an identity where it fits."""

    features: int
    stride: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, drop_path_rate: Rate = 0.0) -> jax.Array:
        y = DepthwiseConv(3, self.stride, dtype=self.dtype, name="depthwise")(x)
        y = BatchNorm("relu", dtype=self.dtype, name="depthwise_norm")(y, train=train)
        y = pointwise(self.features, self.dtype, "pointwise")(y)
        return norm_add_activate(
            y,
            x,
            activation="relu",
            train=train,
            drop_path_rate=drop_path_rate,
            dtype=self.dtype,
            name="pointwise_norm",
        )


class InvertedStem(nn.Module):
    """Two 3x3 convolutions, of stride 1 and 2, each with BatchNorm and SiLU."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = Conv(self.features, 3, stride=1, padding=1, dtype=self.dtype, name="conv1")(x)
        x = BatchNorm("silu", dtype=self.dtype, name="norm1")(x, train=train)
        x = Conv(self.features, 3, stride=2, padding=1, dtype=self.dtype, name="conv2")(x)
        return BatchNorm("silu", dtype=self.dtype, name="norm2")(x, train=train)


class SqueezeExcite(nn.Module):
    """Scales channels by a gate computed from their means (Hu et al., 2018)."""

    reduction: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        hidden = max(1, channels // self.reduction)
        gate = global_mean(x)
        for name, inputs, outputs in (("reduce", channels, hidden), ("expand", hidden, channels)):
            gate = Linear(
                outputs,
                kernel_init=kaiming_normal_fan_out(outputs),
                bias_init=uniform_fan_in(inputs),
                dtype=self.dtype,
                name=name,
            )(gate)
            gate = nn.relu(gate) if name == "reduce" else nn.sigmoid(gate)
        return x * gate[:, None, None, :]


class InvertedBlock(nn.Module):
    """Inverted residual with squeeze-excite: widen 1x1, depthwise 3x3, gate, project 1x1."""

    features: int
    stride: int
    expansion: int
    se_reduction: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, drop_path_rate: Rate = 0.0) -> jax.Array:
        y = x
        if self.expansion != 1:
            y = pointwise(x.shape[-1] * self.expansion, self.dtype, "expand")(y)
            y = BatchNorm("silu", dtype=self.dtype, name="expand_norm")(y, train=train)
        y = DepthwiseConv(3, self.stride, dtype=self.dtype, name="depthwise")(y)
        y = BatchNorm("silu", dtype=self.dtype, name="depthwise_norm")(y, train=train)
        if self.se_reduction > 0:
            y = SqueezeExcite(self.se_reduction, dtype=self.dtype, name="squeeze_excite")(y)
        y = pointwise(self.features, self.dtype, "project")(y)
        return norm_add_activate(
            y,
            x,
            activation="silu",
            train=train,
            drop_path_rate=drop_path_rate,
            dtype=self.dtype,
            name="project_norm",
        )


class ConvNeXtStem(nn.Module):
    """4x4 patches and a LayerNorm over channels."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = Conv(self.features, 4, stride=4, use_bias=True, dtype=self.dtype, name="conv")(x)
        return LayerNorm(NORM_EPS, dtype=self.dtype, name="norm")(x)


class ConvNeXtBlock(nn.Module):
    """ConvNeXt unit (Liu et al., 2022), after a LayerNorm and a 2x2 convolution when it strides."""

    features: int
    stride: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, drop_path_rate: Rate = 0.0) -> jax.Array:
        if self.stride != 1:
            x = LayerNorm(NORM_EPS, dtype=self.dtype, name="downsample_norm")(x)
            x = Conv(
                self.features, 2, stride=2, use_bias=True, dtype=self.dtype, name="downsample"
            )(x)
        y = DepthwiseConv(7, use_bias=True, dtype=self.dtype, name="depthwise")(x)
        y = LayerNorm(NORM_EPS, dtype=self.dtype, name="norm")(y)
        y = gelu(Linear(4 * self.features, dtype=self.dtype, name="expand")(y))
        y = Linear(self.features, dtype=self.dtype, name="project")(y)
        gamma = self.param(
            "gamma", nn.initializers.constant(GAMMA_INIT), (self.features,), jnp.float32
        )
        return x + DropPath()(y * aligned(gamma.astype(self.dtype), y), drop_path_rate, train=train)
