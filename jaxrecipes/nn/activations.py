"""Activations that must equal PyTorch's, with pullbacks that keep only their input.

A pullback writes the transcendental function differently from the forward pass: XLA would merge
equal expressions and keep the result in memory between the passes.
"""

import math

import jax
from jax import numpy as jnp


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """Exact GELU `x * Phi(x)` with the error function, like `torch.nn.GELU()`."""
    return 0.5 * x * (1.0 + jax.lax.erf(x * math.sqrt(0.5)))


def _gelu_fwd(x):
    return gelu(x), x


def _gelu_bwd(x, g):
    cdf = 0.5 * (1.0 - jax.lax.erf(x * -math.sqrt(0.5)))
    pdf = jnp.exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))
    return (g * (cdf + x * pdf),)


gelu.defvjp(_gelu_fwd, _gelu_bwd)


@jax.custom_vjp
def silu(x: jax.Array) -> jax.Array:
    """`x * sigmoid(x)`, like `torch.nn.SiLU()`."""
    return x / (1.0 + jnp.exp(-x))


def silu_derivative(x: jax.Array) -> jax.Array:
    """Derivative of `silu`."""
    sigmoid = 0.5 + 0.5 * jnp.tanh(0.5 * x)
    return sigmoid * (1.0 + x * (1.0 - sigmoid))


def _silu_fwd(x):
    return silu(x), x


def _silu_bwd(x, g):
    return (g * silu_derivative(x),)


silu.defvjp(_silu_fwd, _silu_bwd)


def quick_gelu(x: jax.Array) -> jax.Array:
    """`x * sigmoid(1.702 * x)`, the approximation of GELU that OpenAI's CLIP was trained with."""
    return silu(1.702 * x) * (1.0 / 1.702)
