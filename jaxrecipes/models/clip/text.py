"""CLIP's text tower."""

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.models.clip.blocks import ClipBlock, ClipTowerOutput, normal
from jaxrecipes.models.clip.config import ClipTextConfig
from jaxrecipes.nn import (
    LayerNorm,
    Linear,
    run_block,
)
from jaxrecipes.nn.embedding import embed


class ClipText(nn.Module):
    """Token ids to features of the joint space: a causal transformer.

    Attributes:
      config: the architecture.
      projection_dim: dimension of the joint space.
      dtype: of the computation; parameters stay float32.
    """

    config: ClipTextConfig
    projection_dim: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, token_ids: jax.Array, mask: jax.Array | None = None) -> ClipTowerOutput:
        """Features of texts.

        Args:
          token_ids: `[B, T]` integers, the start token first, padded after the end token.
          mask: `[B, T]`, 1 = keep: hides padding from later tokens. Features do not depend on it,
            because no token sees a later one; only the padding's own tokens do.

        Raises:
          ValueError: more tokens than the tower has positions for.
        """
        config, dtype = self.config, self.dtype
        tokens, width = token_ids.shape[1], config.width
        if tokens > config.context_length:
            raise ValueError(f"{tokens} tokens, this CLIP takes {config.context_length} at most")
        table = self.param("token_embedding", normal(0.02), (config.vocab_size, width), jnp.float32)
        positions = self.param(
            "position_embedding", normal(0.02), (config.context_length, width), jnp.float32
        )
        x = embed(table, token_ids, dtype)
        x = (x + positions[None, :tokens]).astype(dtype)
        seen = None if mask is None else mask.astype(bool)[:, None, None, :]
        for i in range(config.depth):
            x = run_block(ClipBlock(config, dtype, name=f"blocks_{i}"), x, seen, causal=True)
        x = LayerNorm(config.norm_eps, dtype, name="final_norm")(x)
        pooled = jnp.take_along_axis(x, _end(token_ids, config)[:, None, None], axis=1)[:, 0]
        features = Linear(
            self.projection_dim,
            use_bias=False,
            kernel_init=normal(width**-0.5),
            dtype=dtype,
            name="projection",
        )(pooled)
        return ClipTowerOutput(features.astype(jnp.float32), pooled.astype(jnp.float32), x)


def _end(token_ids: jax.Array, config: ClipTextConfig) -> jax.Array:
    """`[B]`, the position at which each text ends."""
    if config.end_token_id is None:
        return token_ids.argmax(-1)
    return (token_ids == config.end_token_id).argmax(-1)
