"""The transformer block of both CLIP towers."""

from typing import NamedTuple

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.models.clip.config import ClipTowerConfig
from jaxrecipes.nn import LayerNorm, Linear, SelfAttention, gelu, quick_gelu

normal = nn.initializers.normal


class ClipBlock(nn.Module):
    """`x += self_attn(norm1(x))`, then `x += linear2(activation(linear1(norm2(x))))`.

    Initialised as in the original: the deeper the tower, the smaller the last layer of each branch.
    """

    config: ClipTowerConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, mask: jax.Array | None = None, causal: bool = False
    ) -> jax.Array:
        """`[B, T, C] -> [B, T, C]`; `mask` and `causal` as in `SelfAttention`."""
        config, dtype = self.config, self.dtype
        wide = config.width**-0.5
        deep = wide * (2 * config.depth) ** -0.5
        y = LayerNorm(config.norm_eps, dtype, name="norm1")(x)
        attention = SelfAttention(
            config.num_heads, normal(deep), dtype, normal(wide), name="self_attn"
        )
        x = x + attention(y, train=False, mask=mask, causal=causal)  # CLIP has no dropout
        y = LayerNorm(config.norm_eps, dtype, name="norm2")(x)
        y = Linear(
            config.mlp_width,
            kernel_init=normal((2 * config.width) ** -0.5),
            dtype=dtype,
            name="linear1",
        )(y)
        y = quick_gelu(y) if config.activation == "quick_gelu" else gelu(y)
        return x + Linear(config.width, kernel_init=normal(deep), dtype=dtype, name="linear2")(y)


class ClipTowerOutput(NamedTuple):
    """The outputs of a tower; all float32 except the tokens.

    Attributes:
      features: `[B, projection_dim]`, in the joint space, not normalised.
      pooled: `[B, width]`, the token that represents the whole input, normalised, before its
        projection.
      tokens: `[B, T, width]` in the tower's dtype. For images: the last block's output, class token
        first, not normalised. For texts: after the final LayerNorm.
    """

    features: jax.Array
    pooled: jax.Array
    tokens: jax.Array
