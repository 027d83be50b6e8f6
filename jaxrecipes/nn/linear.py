"""A linear layer over the last axis, always computed as a product of two 2-D matrices."""

import jax
from flax import linen as nn
from flax.typing import Initializer
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.broadcasting import aligned
from jaxrecipes.nn.initializers import xavier_uniform


def linear(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`[..., n] @ [n, m] -> [..., m]`.

    The leading axes are merged first: the weight gradient of an N-D product contracts several axes,
    for which XLA on CPU writes a transposed copy of the activations.
    """
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


class Linear(nn.Module):
    """`x @ kernel + bias` over the last axis; kernel `[in, features]`. Also the 1x1 convolution.

    Attributes:
      features: outputs per position.
      use_bias: whether there is a bias.
      kernel_init, bias_init: Flax initialisers.
      dtype: of the computation and the result; parameters stay float32.
    """

    features: int
    use_bias: bool = True
    kernel_init: Initializer = xavier_uniform()
    bias_init: Initializer = nn.initializers.zeros_init()
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        y = linear(x.astype(self.dtype), kernel.astype(self.dtype))
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
            y = y + aligned(bias.astype(self.dtype), y)
        return y
