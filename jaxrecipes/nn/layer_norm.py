"""Layer normalisation over the last axis, with a written-out pullback."""

import functools

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.broadcasting import aligned


def _normalise(x: jax.Array, eps: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    mean = x.mean(-1, keepdims=True)
    centred = x - mean
    rstd = jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + eps)
    return centred * rstd, mean, rstd


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float) -> jax.Array:
    """`(x - mean) / sqrt(var + eps) * scale + bias` over the last axis, biased variance.

    Args:
      x: `[..., C]`; computed in float32 whatever its dtype.
      scale: `[C]` float32.
      bias: `[C]` float32.
      eps: added to the variance.

    Returns:
      The shape and dtype of `x`.
    """
    normal, _, _ = _normalise(x.astype(jnp.float32), eps)
    return (normal * aligned(scale, x) + aligned(bias, x)).astype(x.dtype)


def _fwd(x, scale, bias, eps):
    normal, mean, rstd = _normalise(x.astype(jnp.float32), eps)
    return (normal * aligned(scale, x) + aligned(bias, x)).astype(x.dtype), (x, scale, mean, rstd)


def _bwd(eps, saved, g):
    x, scale, mean, rstd = saved
    channels = x.shape[-1]
    flat = g.astype(jnp.float32).reshape(-1, channels)
    normal = ((x.astype(jnp.float32) - mean) * rstd).reshape(-1, channels)
    scaled = flat * scale[None]
    dx = scaled - scaled.mean(-1, keepdims=True)
    dx = (dx - normal * (scaled * normal).mean(-1, keepdims=True)) * rstd.reshape(-1, 1)
    return dx.reshape(x.shape).astype(x.dtype), (flat * normal).sum(0), flat.sum(0)


layer_norm.defvjp(_fwd, _bwd)


class LayerNorm(nn.Module):
    """`layer_norm` as a layer with `scale` and `bias`; computed in float32, result in `dtype`."""

    eps: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (x.shape[-1],), jnp.float32)
        return layer_norm(x.astype(self.dtype), scale, bias, self.eps)
