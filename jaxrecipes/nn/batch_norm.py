"""Batch normalisation with PyTorch's running statistics, fused with residual and activation."""

import functools
import math
from typing import Literal

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.broadcasting import aligned
from jaxrecipes.nn.activations import silu, silu_derivative

Activation = Literal["relu", "silu"] | None


def _activate(u: jax.Array, activation: Activation) -> jax.Array:
    if activation == "relu":
        return jnp.maximum(u, 0.0)
    if activation == "silu":
        return silu(u)
    return u


def _affine(x, mean, rstd, scale, bias, residual, activation: Activation) -> jax.Array:
    """`activation((x - mean) * rstd * scale + bias + residual)`, in float32, in the dtype of x."""
    factor = rstd * scale
    u = x.astype(jnp.float32) * aligned(factor, x) + aligned(bias - mean * factor, x)
    if residual is not None:
        u = u + residual.astype(jnp.float32)
    return _activate(u, activation).astype(x.dtype)


def _statistics(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance over all axes but the last, in float32.

    For feature maps the variance is the mean square minus the squared mean: on CPU, XLA turns sums
    and sums of products into fast kernels, but would materialise `x - mean` before summing its
    square. Vectors `[B, C]` use the exact second pass, which is cheap, because the means of
    activations are far from zero.
    """
    axes = tuple(range(x.ndim - 1))
    n = math.prod(x.shape[:-1])
    x = x.astype(jnp.float32)
    mean = x.sum(axes) / n
    if x.ndim == 2:
        return mean, jnp.square(x - mean[None]).sum(axes) / n
    return mean, jnp.maximum((x * x).sum(axes) / n - mean * mean, 0.0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def batch_norm_act(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    residual: jax.Array | None,
    eps: float,
    activation: Activation,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`activation(normalise(x) * scale + bias + residual)` with the statistics of the batch.

    The pullback is written out, because the one that autodiff derives keeps several arrays of the
    size of `x` alive and makes twice as many passes over memory.

    Args:
      x: `[..., C]`; the statistics are over all axes but the last, in float32.
      scale: `[C]` float32.
      bias: `[C]` float32.
      residual: the shape of `x`, or None.
      eps: added to the variance.
      activation: "relu", "silu" or None.

    Returns:
      y of the shape and dtype of `x`, and `[C]` mean and biased variance, which carry no gradient.
    """
    mean, variance = _statistics(x)
    rstd = jax.lax.rsqrt(variance + eps)
    return _affine(x, mean, rstd, scale, bias, residual, activation), mean, variance


def _fwd(x, scale, bias, residual, eps, activation):
    y, mean, variance = batch_norm_act(x, scale, bias, residual, eps, activation)
    saved_residual = residual if activation == "silu" else None
    mask = y if activation == "relu" else None
    has_residual = None if residual is None else jnp.zeros((), residual.dtype)
    saved = (x, scale, bias, mean, jax.lax.rsqrt(variance + eps), saved_residual, mask)
    return (y, mean, variance), (*saved, has_residual)


def _bwd(eps, activation, saved, cotangents):
    x, scale, bias, mean, rstd, residual, y, has_residual = saved
    g = cotangents[0].astype(jnp.float32)
    axes = tuple(range(x.ndim - 1))
    n = math.prod(x.shape[:-1])
    x32 = x.astype(jnp.float32)
    if activation == "relu":
        g = jnp.where(y > 0, g, 0.0)
    elif activation == "silu":
        u = _affine(x32, mean, rstd, scale, bias, residual, None)
        g = g * silu_derivative(u)
    dbias = g.sum(axes)
    dscale = ((g * x32).sum(axes) - mean * dbias) * rstd
    factor = scale * rstd
    slope = -factor * rstd * dscale / n
    dx = aligned(factor, x) * g + aligned(slope, x) * x32
    dx = dx + aligned(-factor * dbias / n - slope * mean, x)
    dresidual = None if has_residual is None else g.astype(has_residual.dtype)
    return dx.astype(x.dtype), dscale, dbias, dresidual


batch_norm_act.defvjp(_fwd, _bwd)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, equal to torch's BatchNorm1d and 2d.

    In training the batch normalises itself with its biased variance, while the running variance
    receives the unbiased one; `running = (1 - momentum) * running + momentum * batch`. Under `jit`
    with a sharded batch the statistics are those of the global batch.

    The collection "batch_stats" holds `mean` and `var` `[C]` float32 and `num_batches_tracked`
    (int32, counts the training passes, kept so that checkpoints convert without loss).

    Attributes:
      activation: applied at the end: "relu", "silu" or None.
      momentum: in torch's sense, the share of the new batch.
      eps: added to the variance.
      dtype: of the result; statistics and parameters stay float32.
    """

    activation: Activation = None
    momentum: float = 0.1
    eps: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool, residual: jax.Array | None = None
    ) -> jax.Array:
        """Normalises `[..., C]`, adds `residual` of the same shape, applies the activation.

        Raises:
          ValueError: training with a single value per channel, whose variance is undefined.
        """
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones_init(), (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,), jnp.float32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        count = self.variable("batch_stats", "num_batches_tracked", jnp.zeros, (), jnp.int32)
        x = x.astype(self.dtype)
        if not train:
            rstd = jax.lax.rsqrt(var.value + self.eps)
            return _affine(x, mean.value, rstd, scale, bias, residual, self.activation)

        n = math.prod(x.shape[:-1])
        if n < 2 and not self.is_initializing():
            raise ValueError(
                f"batch normalisation in training needs more than one value per channel, got "
                f"{x.shape}: use a batch of two or more, or drop the last incomplete batch"
            )
        y, batch_mean, batch_var = batch_norm_act(
            x, scale, bias, residual, self.eps, self.activation
        )
        if not self.is_initializing():
            unbiased = batch_var * (n / (n - 1))
            # Not "+=", which would change a caller's numpy arrays.
            mean.value = mean.value + self.momentum * (batch_mean - mean.value)
            var.value = var.value + self.momentum * (unbiased - var.value)
            count.value = count.value + 1
        return y
