"""Small dense convolutions: matrix products over patches on CPU, native convolutions elsewhere."""

import functools

import jax
from flax import linen as nn
from flax.typing import Initializer
from jax import lax
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.backend import by_backend
from jaxrecipes.broadcasting import aligned
from jaxrecipes.nn.initializers import kaiming_normal_fan_out, uniform_fan_in
from jaxrecipes.nn.linear import linear


def conv_output_size(size: int, *, kernel_size: int, stride: int, padding: int) -> int:
    """Rows or columns of a convolution's output, as in torch: floor((n + 2p - k) / s) + 1."""
    return (size + 2 * padding - kernel_size) // stride + 1


def taps(x: jax.Array, kernel_size: int, stride: int, padding: int) -> list[jax.Array]:
    """The k * k shifted and strided views of a zero-padded `[B, H, W, C]`, row by row."""
    rows, cols = (
        conv_output_size(n, kernel_size=kernel_size, stride=stride, padding=padding)
        for n in x.shape[1:3]
    )
    if padding:
        x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    return [
        lax.slice(
            x,
            (0, i, j, 0),
            (x.shape[0], i + stride * (rows - 1) + 1, j + stride * (cols - 1) + 1, x.shape[3]),
            (1, stride, stride, 1),
        )
        for i in range(kernel_size)
        for j in range(kernel_size)
    ]


def _patches(x: jax.Array, kernel_size: int, stride: int, padding: int) -> jax.Array:
    """`[B, H', W', k * k * C]`, the input of every output pixel.

    Columns are joined first and rows second, which copies longer runs of memory than joining all
    taps at once.
    """
    rows, cols = (
        conv_output_size(n, kernel_size=kernel_size, stride=stride, padding=padding)
        for n in x.shape[1:3]
    )
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    span = stride * (cols - 1) + 1
    x = jnp.concatenate([x[:, :, j : j + span : stride] for j in range(kernel_size)], axis=-1)
    span = stride * (rows - 1) + 1
    return jnp.concatenate([x[:, i : i + span : stride] for i in range(kernel_size)], axis=-1)


def conv_as_matmul(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """`conv` as one product of patches and kernel (im2col)."""
    return linear(_patches(x, kernel.shape[0], stride, padding), _as_matrix(kernel))


def conv_as_matmul_pullback(
    x: jax.Array, kernel: jax.Array, g: jax.Array, stride: int, padding: int
) -> tuple[jax.Array, jax.Array]:
    """Gradients of `conv_as_matmul` with respect to input and kernel, given that of its result."""
    size = kernel.shape[0]
    _, patches_pullback = jax.vjp(
        lambda x: jnp.concatenate(taps(x, size, stride, padding), axis=-1), x
    )
    patches = _patches(x, size, stride, padding)
    _, kernel_pullback = jax.vjp(lambda k: linear(patches, _as_matrix(k)), kernel)
    return patches_pullback(linear(g, _as_matrix(kernel).T))[0], kernel_pullback(g)[0]


def _as_matrix(kernel: jax.Array) -> jax.Array:
    return kernel.reshape(-1, kernel.shape[-1])


def conv_native(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """`conv` as XLA's convolution."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((padding, padding), (padding, padding)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """Convolution with a square kernel, equal padding on all four sides, and no bias.

    Args:
      x: `[B, H, W, C]`.
      kernel: `[k, k, C, F]`.
      stride: in pixels.
      padding: in pixels.

    Returns:
      `[B, H', W', F]` with sizes as `conv_output_size`.
    """
    return by_backend(
        x,
        kernel,
        cpu=lambda x, k: conv_as_matmul(x, k, stride, padding),
        default=lambda x, k: conv_native(x, k, stride, padding),
    )


def _conv_fwd(x, kernel, stride, padding):
    return conv(x, kernel, stride, padding), (x, kernel)


def _conv_bwd(stride, padding, saved, g):
    def native(x, kernel, g):
        return jax.vjp(lambda x, k: conv_native(x, k, stride, padding), x, kernel)[1](g)

    def as_matmul(x, kernel, g):
        return conv_as_matmul_pullback(x, kernel, g, stride, padding)

    return by_backend(*saved, g, cpu=as_matmul, default=native)


conv.defvjp(_conv_fwd, _conv_bwd)


def patchify(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution whose stride is its kernel size: one product over patches that do not overlap.

    Rows and columns that do not fill a patch are dropped. `[B, H, W, C]` and `[k, k, C, F]` give
    `[B, H // k, W // k, F]`.
    """
    size, _, channels, features = kernel.shape
    batch, height, width, _ = x.shape
    rows, cols = height // size, width // size
    x = x[:, : rows * size, : cols * size].reshape(batch, rows, size, cols, size, channels)
    patches = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows, cols, size * size * channels)
    return linear(patches, kernel.reshape(size * size * channels, features))


class Conv(nn.Module):
    """2-D convolution with a square kernel and torch's arithmetic; kernel `[k, k, in, features]`.

    Attributes:
      features, kernel_size, stride, padding: as in `torch.nn.Conv2d`.
      use_bias: whether there is a bias.
      kernel_init: by default normal with the standard deviation sqrt(2 / fan_out).
      bias_init: by default torch's, uniform in +-1/sqrt(fan_in).
      dtype: of the computation and the result; parameters stay float32.
    """

    features: int
    kernel_size: int
    stride: int = 1
    padding: int = 0
    use_bias: bool = False
    kernel_init: Initializer | None = None
    dtype: DTypeLike = jnp.float32
    bias_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        area = self.kernel_size**2
        init = self.kernel_init or kaiming_normal_fan_out(self.features * area)
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", init, shape, jnp.float32).astype(self.dtype)
        x = x.astype(self.dtype)
        if self.stride == self.kernel_size and self.padding == 0:
            y = patchify(x, kernel)
        else:
            y = conv(x, kernel, self.stride, self.padding)
        if self.use_bias:
            init = self.bias_init or uniform_fan_in(x.shape[-1] * area)
            bias = self.param("bias", init, (self.features,), jnp.float32)
            y = y + aligned(bias.astype(self.dtype), y)
        return y
