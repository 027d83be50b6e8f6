"""Depthwise convolution for CPUs, where XLA's grouped convolution is slow: two formulations.

3x3 kernels: a sum of shifted products. Larger kernels: for each channel, one matrix product over
all pixels with the kernel's Toeplitz matrix. This takes more arithmetic, but in a dense product,
and so does its weight gradient.
"""

import functools

import jax
import numpy as np
from jax import numpy as jnp

from jaxrecipes.broadcasting import aligned
from jaxrecipes.nn.conv import taps

_MAX_PIXELS = 512  # because the matrices of a layer have channels * pixels ** 2 entries
_FEW_PIXELS = 32  # for maps up to this size the weight gradient is unrolled over all pixels


def depthwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """`depthwise_conv` of `[B, H, W, C]` with `[k, k, C]`."""
    size, (_, height, width, _) = kernel.shape[0], x.shape
    if _as_matmul(size, height, width):
        matrices = _matrices(kernel, height, width)
        y = jnp.einsum("bic,cio->cbo", x.reshape(x.shape[0], height * width, -1), matrices)
        return y.transpose(1, 2, 0).reshape(x.shape)
    weights = kernel.reshape(size * size, -1)
    views = taps(x, size, stride, size // 2)
    terms = (view * aligned(weights[t], view) for t, view in enumerate(views))
    return sum(terms, jnp.zeros((), x.dtype))


def depthwise_pullback(
    x: jax.Array, kernel: jax.Array, g: jax.Array, stride: int
) -> tuple[jax.Array, jax.Array]:
    """Gradients of `depthwise` with respect to input and kernel, given the gradient `g` of its
    result.
    """
    size, (batch, height, width, channels) = kernel.shape[0], x.shape
    if not _as_matmul(size, height, width):
        dx = _input_gradient_by_shifts(g, kernel, stride, height, width)
        return dx, _kernel_gradient_by_shifts(x, g, size, stride).astype(kernel.dtype)
    pixels = height * width
    x_rows, g_rows = (a.reshape(batch, pixels, channels).transpose(2, 0, 1) for a in (x, g))
    dx = jnp.einsum("cbo,cio->cbi", g_rows, _matrices(kernel, height, width))
    dmatrices = jnp.einsum("cbi,cbo->cio", x_rows, g_rows, preferred_element_type=jnp.float32)
    entries = _entries_of_taps(height, width, size)
    dkernel = jnp.pad(dmatrices.reshape(channels, -1), ((0, 0), (0, 1)))[:, entries].sum(-1)
    dkernel = dkernel.T.reshape(kernel.shape).astype(kernel.dtype)
    return dx.transpose(1, 2, 0).reshape(x.shape), dkernel


def _as_matmul(size: int, height: int, width: int) -> bool:
    return size > 3 and height * width <= _MAX_PIXELS


@functools.cache
def _tap_of_entry(height: int, width: int, size: int) -> np.ndarray:
    """`[input pixel, output pixel]` -> index of the tap that connects them, size ** 2 for none."""
    rows, cols = (
        np.subtract.outer(np.arange(n), np.arange(n)) + size // 2 for n in (height, width)
    )
    row, col = rows[:, None, :, None], cols[None, :, None, :]
    inside = (row >= 0) & (row < size) & (col >= 0) & (col < size)
    taps = np.where(inside, row * size + col, size * size).astype(np.int32)
    return taps.reshape(height * width, height * width)


@functools.cache
def _entries_of_taps(height: int, width: int, size: int) -> np.ndarray:
    """`[tap, pixels]`: the matrix entries that a tap fills, padded with the index past the end."""
    tap, pixels = _tap_of_entry(height, width, size).ravel(), height * width
    entries = np.full((size * size, pixels), pixels * pixels, np.int32)
    for t in range(size * size):
        found = np.flatnonzero(tap == t)
        entries[t, : len(found)] = found
    return entries


def _matrices(kernel: jax.Array, height: int, width: int) -> jax.Array:
    """`[C, input pixels, output pixels]`, the matrix of each channel's convolution."""
    size, _, channels = kernel.shape
    weights = jnp.pad(kernel.reshape(size * size, channels).T, ((0, 0), (0, 1)))
    return weights[:, _tap_of_entry(height, width, size)]


def _interleave(even: jax.Array, odd: jax.Array, axis: int) -> jax.Array:
    stacked = jnp.stack([even, odd], axis + 1)
    return stacked.reshape(*even.shape[:axis], 2 * even.shape[axis], *even.shape[axis + 1 :])


def _input_gradient_by_shifts(
    g: jax.Array, kernel: jax.Array, stride: int, height: int, width: int
) -> jax.Array:
    if stride == 1:
        return depthwise(g, kernel[::-1, ::-1], 1)
    # An even input row meets only the middle tap; an odd row 2m+1 meets tap 2 of output row m and
    # tap 0 of output row m+1. The same holds for columns, so there are four phases to interleave.
    padded, k = jnp.pad(g, ((0, 0), (0, 1), (0, 1), (0, 0))), kernel[:, :, None, None, None]
    here, below = padded[:, :-1], padded[:, 1:]
    g00, g01, g10, g11 = here[:, :, :-1], here[:, :, 1:], below[:, :, :-1], below[:, :, 1:]
    even_row = _interleave(g00 * k[1, 1], g00 * k[1, 2] + g01 * k[1, 0], 2)
    odd_row = _interleave(
        g00 * k[2, 1] + g10 * k[0, 1],
        g00 * k[2, 2] + g01 * k[2, 0] + g10 * k[0, 2] + g11 * k[0, 0],
        2,
    )
    return _interleave(even_row, odd_row, 1)[:, :height, :width]


def _kernel_gradient_by_shifts(x: jax.Array, g: jax.Array, size: int, stride: int) -> jax.Array:
    # For each tap the products are added over the rows (on small maps over all pixels) by an
    # unrolled sum, which XLA fuses into one pass, followed by a plain reduction. A reduction of
    # sliced operands would not be vectorised. Large maps are read through their padded copy,
    # although some products are then zero: for slices of `x` itself, XLA would recompute whatever
    # `x` is made from, once per slice.
    (height, width, channels), (rows, cols) = x.shape[1:], g.shape[1:3]

    def joined(tap: int, outputs: int, inputs: int) -> list[tuple[int, int]]:
        """(output, input) positions that the tap connects along one axis."""
        pairs = [(n, stride * n + tap - size // 2) for n in range(outputs)]
        return [(n, m) for n, m in pairs if 0 <= m < inputs]

    few = rows * cols <= _FEW_PIXELS
    zero = jnp.zeros_like(g[:, 0, 0] if few else g[:, 0])
    partial_sums = []
    for t, view in enumerate(taps(x, size, stride, size // 2)):
        if few:
            row_pairs, col_pairs = joined(t // size, rows, height), joined(t % size, cols, width)
            terms = [x[:, u, v] * g[:, h, w] for h, u in row_pairs for w, v in col_pairs]
        else:
            terms = [view[:, h] * g[:, h] for h in range(rows)]
        partial_sums.append(functools.reduce(jnp.add, terms, zero))
    stacked = jnp.stack(partial_sums).astype(jnp.float32)
    return stacked.sum(tuple(range(1, stacked.ndim - 1))).reshape(size, size, channels)
