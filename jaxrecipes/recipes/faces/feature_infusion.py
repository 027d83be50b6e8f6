"""Features of several depths of a vision transformer, fused into one set of tokens."""

from collections.abc import Sequence

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.nn import BatchNorm, Conv, Linear
from jaxrecipes.nn.initializers import uniform_fan_in


class FeatureInfusion(nn.Module):
    """Projects class token and patch map of each depth, joins the depths, and projects back.

    Every projection is followed by a batch normalisation and ReLU; the last one of the maps is a
    3x3 convolution. Initialised with torch's defaults.

    Attributes:
      features: channels of each depth's projection.
      dtype: of the computation and the result; parameters and statistics stay float32.
    """

    features: int = 64
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, states: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Fuses hidden states of equal shape.

        Args:
          states: `[B, 1 + P * P, C]` each, the class token first, then a square map row by row;
            registers must have been taken away.
          train: whether the statistics are the batch's, which then needs two examples or more.

        Returns:
          `[B, 1 + P * P, C]`.

        Raises:
          ValueError: no states, or tokens that are not one more than a square.
        """
        if not states:
            raise ValueError("feature infusion needs at least one hidden state, got none")
        batch, tokens, width = states[0].shape
        grid = round((tokens - 1) ** 0.5)
        if grid * grid != tokens - 1:
            raise ValueError(
                f"feature infusion needs a class token and a square map, got {tokens} tokens: take "
                "registers away with `without_registers`"
            )

        def normalised(x: jax.Array, name: str) -> jax.Array:
            return BatchNorm("relu", dtype=self.dtype, name=f"{name}_norm")(x, train=train)

        def linear(x: jax.Array, features: int, name: str) -> jax.Array:
            init = uniform_fan_in(x.shape[-1])
            layer = Linear(features, kernel_init=init, bias_init=init, dtype=self.dtype, name=name)
            return normalised(layer(x), name)

        first = [linear(x[:, 0], self.features, f"cls_{i}") for i, x in enumerate(states)]
        maps = [
            linear(x[:, 1:].reshape(batch, grid, grid, width), self.features, f"map_{i}")
            for i, x in enumerate(states)
        ]
        fused_first = linear(jnp.concatenate(first, axis=-1), width, "cls_fusion")
        joined = jnp.concatenate(maps, axis=-1)
        conv = Conv(
            width,
            3,
            padding=1,
            use_bias=True,
            kernel_init=uniform_fan_in(9 * joined.shape[-1]),
            dtype=self.dtype,
            name="map_fusion",
        )
        fused_map = normalised(conv(joined), "map_fusion").reshape(batch, grid * grid, width)
        return jnp.concatenate([fused_first[:, None], fused_map], axis=1)
