"""The four OCEC heads: `[B, h, w, C]` features to `[B, 1]` logits."""

import jax
from flax import linen as nn
from flax.typing import Initializer
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.nn import (
    BatchNorm,
    Dropout,
    EncoderLayer,
    LayerNorm,
    Linear,
    Rate,
    gelu,
    global_max,
    global_mean,
)
from jaxrecipes.nn.initializers import xavier_uniform


class AvgHead(nn.Module):
    """Mean over pixels, BatchNorm, dropout, linear."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, dropout_rate: Rate) -> jax.Array:
        x = BatchNorm(dtype=self.dtype, name="norm")(global_mean(x), train=train)
        x = Dropout()(x, dropout_rate, train=train)
        return Linear(1, dtype=self.dtype, name="linear")(x)


class AvgMaxHead(nn.Module):
    """Mean and maximum over pixels, BatchNorm, and two linear layers with dropout before each."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, dropout_rate: Rate) -> jax.Array:
        hidden = max(16, x.shape[-1])
        pooled = jnp.concatenate([global_mean(x), global_max(x)], axis=-1)
        x = BatchNorm(dtype=self.dtype, name="norm")(pooled, train=train)
        x = Dropout()(x, dropout_rate, train=train)
        x = nn.relu(Linear(hidden, dtype=self.dtype, name="hidden")(x))
        x = Dropout()(x, dropout_rate, train=train)
        return Linear(1, dtype=self.dtype, name="linear")(x)


class MixerLayer(nn.Module):
    """MLP-Mixer layer (Tolstikhin et al., 2021): a mix over tokens, then one over channels."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, dropout_rate: Rate) -> jax.Array:
        tokens, channels = x.shape[1:]
        y = LayerNorm(dtype=self.dtype, name="norm_tokens")(x).swapaxes(1, 2)
        y = gelu(Linear(2 * tokens, dtype=self.dtype, name="token_fc1")(y))
        y = Dropout()(y, dropout_rate, train=train)
        y = Linear(tokens, dtype=self.dtype, name="token_fc2")(y)
        y = Dropout()(y, dropout_rate, train=train)
        x = x + y.swapaxes(1, 2)
        y = LayerNorm(dtype=self.dtype, name="norm_channels")(x)
        y = gelu(Linear(2 * channels, dtype=self.dtype, name="channel_fc1")(y))
        y = Dropout()(y, dropout_rate, train=train)
        y = Linear(channels, dtype=self.dtype, name="channel_fc2")(y)
        return x + Dropout()(y, dropout_rate, train=train)


def pool_tokens(x: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """Means over cells that do not overlap: `[B, h, w, C]` to `[B, rows * cols, C]`, row by row.

    Raises:
      ValueError: the grid does not divide the feature map.
    """
    batch, height, width, channels = x.shape
    rows, cols = grid
    if height % rows or width % cols:
        raise ValueError(f"a {rows}x{cols} token grid does not divide {height}x{width} features")
    cells = x.reshape(batch, rows, height // rows, cols, width // cols, channels)
    return cells.mean((2, 4)).reshape(batch, rows * cols, channels)


class TokenHead(nn.Module):
    """Tokens pooled from the feature map, mixed by attention or by MLPs, averaged, classified.

    Attributes:
      mixer: "transformer" or "mlp_mixer".
      grid: (rows, columns) of tokens.
      layers: number of mixing layers.
      dtype: of the computation; parameters stay float32.
    """

    mixer: str
    grid: tuple[int, int]
    layers: int
    dtype: DTypeLike = jnp.float32

    def _shared_init(self) -> Initializer:
        """All layers start with one in-projection: the original clones its first layer."""
        init = xavier_uniform()
        if not self.is_initializing():
            return init
        key = self.make_rng("params")
        return lambda _, shape, dtype=jnp.float32: init(key, shape, dtype)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, dropout_rate: Rate) -> jax.Array:
        x = pool_tokens(x, self.grid)
        channels = x.shape[-1]
        if self.mixer == "transformer":
            heads = max(n for n in range(1, min(8, channels) + 1) if channels % n == 0)
            in_proj_init = self._shared_init()
            for i in range(self.layers):
                x = EncoderLayer(
                    heads, max(128, 2 * channels), in_proj_init, self.dtype, name=f"layers_{i}"
                )(x, train=train, dropout_rate=dropout_rate)
        else:
            for i in range(self.layers):
                x = MixerLayer(self.dtype, name=f"layers_{i}")(
                    x, train=train, dropout_rate=dropout_rate
                )
        x = LayerNorm(dtype=self.dtype, name="final_norm")(x.mean(1))
        x = Dropout()(x, dropout_rate, train=train)
        return Linear(1, dtype=self.dtype, name="linear")(x)
