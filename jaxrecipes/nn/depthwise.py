"""Depthwise convolution: products and sums on CPU, the grouped convolution elsewhere."""

import functools

import jax
from flax import linen as nn
from jax import lax
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.backend import by_backend
from jaxrecipes.broadcasting import aligned
from jaxrecipes.nn import depthwise_cpu
from jaxrecipes.nn.initializers import kaiming_normal_fan_out, uniform_fan_in


def depthwise_native(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """`depthwise_conv` as XLA's grouped convolution."""
    pad = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None, :],
        (stride, stride),
        ((pad, pad), (pad, pad)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise_conv(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolves each channel with its own square kernel, zero-padded by half the kernel size.

    Args:
      x: `[B, H, W, C]`.
      kernel: `[k, k, C]` with odd k.
      stride: 1, or 2 with k = 3.

    Returns:
      `[B, ceil(H / stride), ceil(W / stride), C]`.

    Raises:
      ValueError: another kernel size or stride, or channels that differ.
    """
    size = kernel.shape[0]
    if kernel.shape != (size, size, x.shape[-1]) or size % 2 == 0:
        raise ValueError(f"expected a kernel [k, k, {x.shape[-1]}] with odd k, got {kernel.shape}")
    if stride != 1 and (stride, size) != (2, 3):
        raise ValueError(f"expected stride 1, or stride 2 with k = 3, got {stride} with k = {size}")
    return by_backend(
        x,
        kernel,
        cpu=lambda x, k: depthwise_cpu.depthwise(x, k, stride),
        default=lambda x, k: depthwise_native(x, k, stride),
    )


def depthwise_pullback_native(x, kernel, g, stride: int) -> tuple[jax.Array, jax.Array]:
    """Gradients of `depthwise_conv` with respect to input and kernel, as XLA's convolutions."""
    return jax.vjp(lambda x, k: depthwise_native(x, k, stride), x, kernel)[1](g)


def _depthwise_fwd(x, kernel, stride):
    return depthwise_conv(x, kernel, stride), (x, kernel)


def _depthwise_bwd(stride, saved, g):
    return by_backend(
        *saved,
        g,
        cpu=lambda x, k, g: depthwise_cpu.depthwise_pullback(x, k, g, stride),
        default=lambda x, k, g: depthwise_pullback_native(x, k, g, stride),
    )


depthwise_conv.defvjp(_depthwise_fwd, _depthwise_bwd)


class DepthwiseConv(nn.Module):
    """Depthwise convolution as a layer; kernel `[k, k, C]`, padding k // 2.

    Attributes:
      kernel_size, stride, use_bias: as in `torch.nn.Conv2d` with groups = channels.
      dtype: of the computation and the result; parameters stay float32.
    """

    kernel_size: int = 3
    stride: int = 1
    use_bias: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels, area = x.shape[-1], self.kernel_size**2
        shape = (self.kernel_size, self.kernel_size, channels)
        kernel = self.param("kernel", kaiming_normal_fan_out(channels * area), shape, jnp.float32)
        y = depthwise_conv(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)
        if self.use_bias:
            bias = self.param("bias", uniform_fan_in(area), (channels,), jnp.float32)
            y = y + aligned(bias.astype(self.dtype), y)
        return y
