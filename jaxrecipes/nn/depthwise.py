"""Depthwise convolution: shifted multiply-adds on CPU, the grouped convolution elsewhere."""

import functools

import jax
from flax import linen as nn
from jax import lax
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.nn.backend import by_backend
from jaxrecipes.nn.conv import taps
from jaxrecipes.nn.initializers import kaiming_normal_fan_out, uniform_fan_in


def depthwise_as_shifts(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """`depthwise_conv` as a sum of shifted products: one fused pass over memory."""
    size = kernel.shape[0]
    views = taps(x, size, stride, size // 2)
    weights = kernel.reshape(size * size, -1)
    return sum((view * weights[t] for t, view in enumerate(views)), jnp.zeros((), x.dtype))


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


def _interleave(even: jax.Array, odd: jax.Array, axis: int) -> jax.Array:
    stacked = jnp.stack([even, odd], axis + 1)
    return stacked.reshape(*even.shape[:axis], 2 * even.shape[axis], *even.shape[axis + 1 :])


def _input_gradient(g: jax.Array, kernel: jax.Array, stride: int, height: int, width: int):
    """Gradient of `depthwise_as_shifts` with respect to its input of `height` x `width`."""
    if stride == 1:
        return depthwise_as_shifts(g, kernel[::-1, ::-1], 1)
    # An even input row meets only the middle tap; an odd row 2m+1 meets tap 2 of output row m and
    # tap 0 of output row m+1. The same holds for columns, so there are four phases to interleave.
    below = jnp.pad(g, ((0, 0), (0, 1), (0, 1), (0, 0)))
    here, down = below[:, :-1], below[:, 1:]
    g00, g01, g10, g11 = here[:, :, :-1], here[:, :, 1:], down[:, :, :-1], down[:, :, 1:]
    k = kernel
    even_row = _interleave(g00 * k[1, 1], g00 * k[1, 2] + g01 * k[1, 0], 2)
    odd_row = _interleave(
        g00 * k[2, 1] + g10 * k[0, 1],
        g00 * k[2, 2] + g01 * k[2, 0] + g10 * k[0, 2] + g11 * k[0, 0],
        2,
    )
    return _interleave(even_row, odd_row, 1)[:, :height, :width]


def _kernel_gradient(x: jax.Array, g: jax.Array, size: int, stride: int) -> jax.Array:
    """Gradient of `depthwise_as_shifts` with respect to its kernel.

    For each tap the products are added over the rows (on small maps over all pixels) by an unrolled
    sum, which XLA fuses into one pass; only then is a plain reduction taken. A reduction of sliced
    operands would run unvectorised.
    """
    pad = size // 2
    height, width = x.shape[1:3]
    rows, cols = g.shape[1:3]
    small = rows * cols <= 32
    if not small:
        x = jnp.pad(x, ((0, 0), (0, 0), (pad, pad), (0, 0)))
    partial = []
    for i in range(size):
        pairs = [(h, stride * h + i - pad) for h in range(rows)]
        pairs = [(h, u) for h, u in pairs if 0 <= u < height]
        for j in range(size):
            if small:
                columns = [(w, stride * w + j - pad) for w in range(cols)]
                columns = [(w, v) for w, v in columns if 0 <= v < width]
                terms = [x[:, u, v] * g[:, h, w] for h, u in pairs for w, v in columns]
                zero = jnp.zeros_like(g[:, 0, 0])
            else:
                stop = j + stride * (cols - 1) + 1
                terms = [x[:, u, j:stop:stride] * g[:, h] for h, u in pairs]
                zero = jnp.zeros_like(g[:, 0])
            partial.append(sum(terms[1:], terms[0]) if terms else zero)
    stacked = jnp.stack(partial).astype(jnp.float32)
    return stacked.sum(tuple(range(1, stacked.ndim - 1))).reshape(size, size, -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise_conv(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Each channel convolved with its own square kernel, zero-padded by half the kernel size.

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
        raise ValueError(f"want a kernel [k, k, {x.shape[-1]}] with odd k, got {kernel.shape}")
    if stride != 1 and (stride, size) != (2, 3):
        raise ValueError(f"want stride 1, or stride 2 with k = 3, got {stride} with k = {size}")
    return by_backend(
        x,
        kernel,
        cpu=lambda x, k: depthwise_as_shifts(x, k, stride),
        default=lambda x, k: depthwise_native(x, k, stride),
    )


def depthwise_pullback_as_shifts(x, kernel, g, stride: int) -> tuple[jax.Array, jax.Array]:
    """Gradients of `depthwise_conv` for input and kernel, formulated for CPU."""
    dx = _input_gradient(g, kernel, stride, *x.shape[1:3])
    return dx, _kernel_gradient(x, g, kernel.shape[0], stride).astype(kernel.dtype)


def depthwise_pullback_native(x, kernel, g, stride: int) -> tuple[jax.Array, jax.Array]:
    """Gradients of `depthwise_conv` for input and kernel, as XLA's convolutions."""
    return jax.vjp(lambda x, k: depthwise_native(x, k, stride), x, kernel)[1](g)


def _depthwise_fwd(x, kernel, stride):
    return depthwise_conv(x, kernel, stride), (x, kernel)


def _depthwise_bwd(stride, saved, g):
    return by_backend(
        *saved,
        g,
        cpu=lambda x, k, g: depthwise_pullback_as_shifts(x, k, g, stride),
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
        kernel = self.param("kernel", kaiming_normal_fan_out(channels * area), shape)
        y = depthwise_conv(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)
        if self.use_bias:
            y = y + self.param("bias", uniform_fan_in(area), (channels,)).astype(self.dtype)
        return y
