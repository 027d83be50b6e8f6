"""OCEC: a small network that tells open from closed eyes (PINTO0309/OCEC), layer for layer."""

import math

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.nn import Rate, conv_output_size
from jaxrecipes.recipes.ocec.blocks import (
    BaselineBlock,
    BaselineStem,
    ConvNeXtBlock,
    ConvNeXtStem,
    InvertedBlock,
    InvertedStem,
)
from jaxrecipes.recipes.ocec.heads import AvgHead, AvgMaxHead, TokenHead
from jaxrecipes.recipes.ocec.network_config import PUBLISHED, OcecConfig

__all__ = ["PUBLISHED", "Ocec", "OcecConfig", "check_image_size", "feature_size"]


class Ocec(nn.Module):
    """Eye crops to one logit each; the probability of *open* is its sigmoid.

    Attributes:
      config: the architecture.
      dtype: of the computation; parameters, statistics and logits stay float32.
    """

    config: OcecConfig
    dtype: DTypeLike = jnp.float32

    def setup(self):
        config, dtype = self.config, self.dtype
        stem: nn.Module
        blocks: list[nn.Module]
        head: nn.Module
        plan = list(zip(config.channels, config.strides, strict=True))
        if config.arch_variant == "baseline":
            stem = BaselineStem(config.base_channels, dtype)
            blocks = [BaselineBlock(channels, stride, dtype) for channels, stride in plan]
        elif config.arch_variant == "inverted_se":
            stem = InvertedStem(config.base_channels, dtype)
            blocks = [
                InvertedBlock(channels, stride, config.expansion, config.se_reduction, dtype)
                for channels, stride in plan
            ]
        else:
            stem = ConvNeXtStem(config.base_channels, dtype)
            blocks = [ConvNeXtBlock(channels, stride, dtype) for channels, stride in plan]
        if config.head == "avg":
            head = AvgHead(dtype)
        elif config.head == "avgmax_mlp":
            head = AvgMaxHead(dtype)
        else:
            grid, layers = config.token_mixer_grid, config.token_mixer_layers
            head = TokenHead(config.head, grid, layers, dtype)
        self.stem, self.blocks, self.head = stem, blocks, head

    def features(
        self, images: jax.Array, *, train: bool, drop_path_rate: Rate = 0.0
    ) -> tuple[jax.Array, jax.Array]:
        """Output of the stem and of the last block, `[B, h, w, C]` each."""
        stem = x = self.stem(images.astype(self.dtype), train=train)
        last = len(self.blocks) - 1
        for i, block in enumerate(self.blocks):
            # Linear in depth; the first of several blocks has a Python zero, so it draws nothing.
            rate = drop_path_rate * (i / last) if last and i else (0.0 if last else drop_path_rate)
            x = block(x, train=train, drop_path_rate=rate)
        return stem, x

    def __call__(
        self,
        images: jax.Array,
        *,
        train: bool,
        dropout_rate: Rate = 0.0,
        drop_path_rate: Rate = 0.0,
    ) -> jax.Array:
        """Logits `[B]` float32 of images `[B, H, W, 3]`, normalised floats.

        Args:
          images: float images; [0, 1] with the original's identity normalisation.
          train: batch statistics (and their update), dropout and drop path.
          dropout_rate: of the head's dropouts, traced or not. Needs the rng "dropout".
          drop_path_rate: stochastic depth of the last block; the other blocks' rates rise linearly
            towards it with their depth. Needs the rng "dropout".

        Raises:
          ValueError: the images are too small, or the token grid does not divide (see
            `check_image_size`).
        """
        check_image_size(self.config, *images.shape[1:3])
        _, x = self.features(images, train=train, drop_path_rate=drop_path_rate)
        logits = self.head(x, train=train, dropout_rate=dropout_rate)
        return logits[:, 0].astype(jnp.float32)


def feature_size(config: OcecConfig, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the last block's feature map for images of `height` x `width`."""

    def reduce(size: int) -> int:
        if config.arch_variant == "convnext":
            size //= 4
            for stride in config.strides:
                size //= stride
            return size
        for stride in (2, *config.strides):
            size = conv_output_size(size, kernel_size=3, stride=stride, padding=1)
        return size

    return reduce(height), reduce(width)


def check_image_size(config: OcecConfig, height: int, width: int) -> None:
    """Checks that the network can take images of `height` x `width` pixels.

    Raises:
      ValueError: nothing would be left of the image, or the token grid does not divide the feature
        map; the message names what would work.
    """
    rows, cols = feature_size(config, height, width)
    if rows < 1 or cols < 1:
        least = 4 * math.prod(config.strides) if config.arch_variant == "convnext" else 1
        raise ValueError(
            f"images of {height}x{width} leave a {rows}x{cols} feature map; {config.arch_variant} "
            f"with {config.num_blocks} blocks needs {least} pixels or more in height and in width"
        )
    if config.head not in ("transformer", "mlp_mixer"):
        return
    grid = config.token_mixer_grid
    if rows % grid[0] or cols % grid[1]:
        usable = ", ".join(f"{r}x{c}" for r in _divisors(rows) for c in _divisors(cols))
        raise ValueError(
            f"token_mixer_grid {grid[0]}x{grid[1]} does not divide the {rows}x{cols} feature map "
            f"of {height}x{width} images; grids that do: {usable}"
        )


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]
