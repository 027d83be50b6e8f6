"""DINOv2 (Oquab et al., 2023): image features learned without labels.

Weights are read and written by `jaxrecipes.models.dinov2.weights`.
"""

import jax
from flax import linen as nn
from flax.typing import Initializer
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.broadcasting import aligned
from jaxrecipes.models.dinov2.config import Dinov2Config, PosInterp, dinov2_config
from jaxrecipes.models.dinov2.positions import interpolate_positions
from jaxrecipes.nn import Conv, LayerNorm, Linear, SelfAttention, gelu, run_block, silu

__all__ = [
    "IMAGE_MEAN",
    "IMAGE_STD",
    "Dinov2",
    "Dinov2Block",
    "Dinov2Config",
    "PosInterp",
    "dinov2_config",
    "interpolate_positions",
    "without_registers",
]

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


class Dinov2Block(nn.Module):
    """`x += layer_scale1 * self_attn(norm1(x))`, then `x += layer_scale2 * mlp(norm2(x))`.

    The feed-forward part is `linear2(gelu(linear1(x)))`; with SwiGLU `linear1` computes gate and
    value side by side, for `linear2(silu(gate) * value)`.
    """

    config: Dinov2Config
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, T, C] -> [B, T, C]`."""
        config, dtype = self.config, self.dtype
        normal = _normal(config.init_std)

        def scaled(y: jax.Array, name: str) -> jax.Array:
            scale = self.param(name, nn.initializers.ones_init(), (config.width,), jnp.float32)
            return y * aligned(scale.astype(dtype), y)

        y = LayerNorm(config.norm_eps, dtype, name="norm1")(x)
        attention = SelfAttention(config.num_heads, normal, dtype, normal, name="self_attn")
        x = x + scaled(attention(y, train=False), "layer_scale1")  # DINOv2 has no dropout
        y = LayerNorm(config.norm_eps, dtype, name="norm2")(x)
        hidden = config.mlp_width * (2 if config.swiglu else 1)
        y = Linear(hidden, kernel_init=normal, dtype=dtype, name="linear1")(y)
        if config.swiglu:
            gate, value = jnp.split(y, 2, axis=-1)
            y = silu(gate) * value
        else:
            y = gelu(y)
        y = Linear(config.width, kernel_init=normal, dtype=dtype, name="linear2")(y)
        return x + scaled(y, "layer_scale2")


class Dinov2(nn.Module):
    """A vision transformer with a class token, without dropout and without batch statistics.

    Attributes:
      config: the architecture.
      dtype: of the computation and of the tokens; parameters stay float32, and so do LayerNorms,
        softmaxes and the interpolation of positions inside.
    """

    config: Dinov2Config
    dtype: DTypeLike = jnp.float32

    def setup(self):
        config, dtype = self.config, self.dtype
        zeros, size = nn.initializers.zeros_init(), config.patch_size
        normal = _normal(config.init_std)
        self.patch_embedding = Conv(
            config.width,
            size,
            size,
            use_bias=True,
            kernel_init=normal,
            bias_init=zeros,
            dtype=dtype,
        )
        self.cls_token = self.param("cls_token", normal, (1, config.width), jnp.float32)
        # Unused, but kept for conversion.
        self.mask_token = self.param("mask_token", zeros, (config.width,), jnp.float32)
        self.position_embedding = self.param(
            "position_embedding",
            _normal(config.position_std),
            (1 + config.grid**2, config.width),
            jnp.float32,
        )
        if config.num_registers:
            self.register_tokens = self.param(
                "register_tokens", normal, (config.num_registers, config.width), jnp.float32
            )
        self.blocks = [Dinov2Block(config, dtype) for _ in range(config.depth)]
        self.norm = LayerNorm(config.norm_eps, dtype)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Features of images.

        Args:
          images: `[B, S, S, 3]` floats, normalised with `IMAGE_MEAN` and `IMAGE_STD`; `S` is any
            multiple of the patch size.

        Returns:
          `[B, 1 + R + (S / patch_size)^2, C]` tokens after the final LayerNorm: the class token, R
          registers, patches row by row. `without_registers` drops the registers.

        Raises:
          ValueError: images that are not square, or not made of whole patches.
        """
        return self.with_hidden_states(images)[0]

    def with_hidden_states(self, images: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        """(the result of the call, hidden states); `apply(..., method=Dinov2.with_hidden_states)`.

        The `depth + 1` hidden states, of the shape of the first, are the embedded image and each
        block's output, not normalised.
        """
        states = [self._embed(images)]
        for block in self.blocks:
            states.append(run_block(block, states[-1]))
        return self.norm(states[-1]), states

    def _embed(self, images: jax.Array) -> jax.Array:
        config, dtype = self.config, self.dtype
        _check_images(images, config.patch_size)
        patches = self.patch_embedding(images)
        batch, grid, _, width = patches.shape
        positions = interpolate_positions(self.position_embedding, grid, config.interpolation)
        first = self.cls_token + positions[:1]
        if config.num_registers:  # they have no positions
            first = jnp.concatenate([first, self.register_tokens])
        first = jnp.broadcast_to(first.astype(dtype), (batch, *first.shape))
        patches = patches.reshape(batch, grid * grid, width) + positions[None, 1:].astype(dtype)
        return jnp.concatenate([first, patches], axis=1)


def without_registers(tokens: jax.Array, num_registers: int) -> jax.Array:
    """`[B, 1 + R + P, C] -> [B, 1 + P, C]`: the class token and the patches."""
    if not num_registers:
        return tokens
    return jnp.concatenate([tokens[:, :1], tokens[:, 1 + num_registers :]], axis=1)


def _normal(std: float) -> Initializer:
    # The original truncates the normal distribution at +-2, which is a hundred standard deviations
    # away.
    return nn.initializers.normal(std)


def _check_images(images: jax.Array, patch_size: int) -> None:
    if images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"expected images [B, S, S, 3], got the shape {images.shape}")
    rows, cols = images.shape[1:3]
    if rows != cols:
        raise ValueError(
            f"DINOv2 takes square images, got {rows}x{cols} pixels: crop or pad them first"
        )
    if rows < patch_size or rows % patch_size:
        nearest = max(1, round(rows / patch_size)) * patch_size
        raise ValueError(
            f"images of {rows}x{cols} pixels are not made of whole patches of {patch_size}: "
            f"resize them, for instance to {nearest}x{nearest}"
        )
