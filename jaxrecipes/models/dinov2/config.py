"""Configuration of DINOv2 and the published sizes."""

import dataclasses
from typing import Literal

from jaxrecipes.errors import named
from jaxrecipes.fields import Checked, Count, CountOrZero, Layers, NonNegative, Pixels, Positive

PosInterp = Literal["hf", "antialias", "official"]

_PUBLISHED = {  # width, depth, heads, SwiGLU
    "vit_s_14": (384, 12, 6, False),
    "vit_b_14": (768, 12, 12, False),
    "vit_l_14": (1024, 24, 16, False),
    "vit_g_14": (1536, 40, 24, True),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dinov2Config(Checked):
    """DINOv2 (Oquab et al., 2023; with registers: Darcet et al., 2023).

    Attributes:
      width: channels of a token.
      depth: blocks.
      num_heads: attention heads of each block; must divide the width.
      mlp_ratio: hidden channels of a block's feed-forward part, in widths; two thirds of that with
        SwiGLU, rounded up to a multiple of eight.
      swiglu: whether the feed-forward part is gated (SwiGLU) instead of a perceptron with GELU.
      patch_size: height and width of a patch, in pixels.
      image_size: height and width, in pixels, of the images that the position table is made for.
        Other sizes work as well; the table is then interpolated.
      num_registers: register tokens between the class token and the patches; 0 or 4 as published.
      pos_interp: how the table is interpolated: "hf" (as Hugging Face, whose scale is the exact
        ratio), "official" (as the original without registers, whose scale has an offset of 0.1), or
        "antialias" (as both with registers). None: "antialias" with registers, else "hf".
      norm_eps: of every LayerNorm.
      init_std: standard deviation of the weights that a network from scratch begins with. 0.02 is
        published; a narrow one is then slow to begin with, and learns far sooner from about
        1 / sqrt(width).
      position_std: the same for the table of positions; far below the spread of an embedded patch
        (init_std times the root of its numbers), places take long to matter.

    Raises:
      ValueError: a size below 1, heads that do not divide the width, an image that is not made of
        whole patches, an unknown interpolation, a
        standard deviation of 0 or less.
    """

    width: Count
    depth: Layers
    num_heads: Count
    mlp_ratio: Positive = 4.0
    swiglu: bool = False
    patch_size: Count = 14
    image_size: Pixels = 518
    num_registers: CountOrZero = 0
    pos_interp: PosInterp | None = None
    norm_eps: NonNegative = 1e-6
    init_std: Positive = 0.02
    position_std: Positive = 0.02

    def __post_init__(self):
        super().__post_init__()
        if self.mlp_width < 1:
            raise ValueError(
                f"mlp_ratio {self.mlp_ratio} leaves no hidden channels of {self.width}"
            )
        if self.width % self.num_heads:
            raise ValueError(f"{self.num_heads} heads do not divide the width {self.width}")
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )

    @property
    def grid(self) -> int:
        """Rows, and columns, of the position table."""
        return self.image_size // self.patch_size

    @property
    def mlp_width(self) -> int:
        """Hidden channels of the feed-forward part."""
        hidden = int(self.width * self.mlp_ratio)
        return (int(hidden * 2 / 3) + 7) // 8 * 8 if self.swiglu else hidden

    @property
    def interpolation(self) -> PosInterp:
        """`pos_interp`, or the default if it is None."""
        return self.pos_interp or ("antialias" if self.num_registers else "hf")


def dinov2_config(size: str, *, num_registers: int = 0) -> Dinov2Config:
    """The config of a published size; change other fields with `dataclasses.replace`.

    Args:
      size: "vit_s_14", "vit_b_14", "vit_l_14" or "vit_g_14".
      num_registers: 4 for the published weights with registers, 0 for those without.

    Raises:
      ValueError: an unknown size (names the nearest).
    """
    width, depth, num_heads, swiglu = named("size of DINOv2", size, _PUBLISHED)
    return Dinov2Config(
        width=width, depth=depth, num_heads=num_heads, swiglu=swiglu, num_registers=num_registers
    )
