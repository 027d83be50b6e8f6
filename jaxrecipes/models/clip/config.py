"""Configuration of CLIP: its two towers and the published sizes."""

import dataclasses
from typing import Literal

from jaxrecipes.fields import Checked, Count, CountOrZero, Layers, NonNegative, Pixels

Activation = Literal["quick_gelu", "gelu"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipTowerConfig(Checked):
    """A stack of pre-norm transformer blocks.

    Attributes:
      width: channels of a token.
      depth: blocks.
      num_heads: attention heads of each block; must divide the width.
      mlp_width: hidden channels of a block's feed-forward part.
      activation: "quick_gelu" (all of OpenAI's weights) or "gelu", the exact one (LAION's weights).
        Weights do not say which of the two they were trained with.
      norm_eps: of every LayerNorm.

    Raises:
      ValueError: a size below 1, heads that do not divide the width, an unknown activation.
    """

    width: Count
    depth: Layers
    num_heads: Count
    mlp_width: Count
    activation: Activation = "quick_gelu"
    norm_eps: NonNegative = 1e-5

    def __post_init__(self):
        super().__post_init__()
        if self.width % self.num_heads:
            raise ValueError(f"{self.num_heads} heads do not divide the width {self.width}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipVisionConfig(ClipTowerConfig):
    """The image tower.

    Attributes:
      image_size: height and width of the images, in pixels.
      patch_size: height and width of a patch, in pixels.
    """

    image_size: Pixels
    patch_size: Count

    def __post_init__(self):
        super().__post_init__()
        if self.patch_size > self.image_size:
            raise ValueError(f"patches of {self.patch_size} pixels, images of {self.image_size}")

    @property
    def grid(self) -> int:
        """Rows, and columns, of patches; pixels that do not fill a patch are ignored."""
        return self.image_size // self.patch_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipTextConfig(ClipTowerConfig):
    """The text tower.

    Attributes:
      vocab_size: number of token ids.
      context_length: largest number of tokens of a text, including the two special ones.
      end_token_id: the text's features are taken at the first token with this id; None: at the
        highest id, which is the end token of CLIP's own vocabulary (and the rule that published
        configurations mean by their `eos_token_id` of 2).
    """

    vocab_size: Count = 49408
    context_length: Count = 77
    end_token_id: CountOrZero | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipConfig(Checked):
    """CLIP (Radford et al., 2021): two towers with a joint space.

    Attributes:
      vision: the image tower.
      text: the text tower.
      projection_dim: dimension of the joint space.
    """

    vision: ClipVisionConfig
    text: ClipTextConfig
    projection_dim: Count


def _published(image_size: int, patch_size: int, *, large: bool) -> ClipConfig:
    width, depth, text_width = (1024, 24, 768) if large else (768, 12, 512)
    return ClipConfig(
        vision=ClipVisionConfig(
            image_size=image_size,
            patch_size=patch_size,
            width=width,
            depth=depth,
            num_heads=width // 64,
            mlp_width=4 * width,
        ),
        text=ClipTextConfig(
            width=text_width, depth=12, num_heads=text_width // 64, mlp_width=4 * text_width
        ),
        projection_dim=text_width,
    )


PUBLISHED: dict[str, ClipConfig] = {
    "ViT-B/32": _published(224, 32, large=False),
    "ViT-B/16": _published(224, 16, large=False),
    "ViT-L/14": _published(224, 14, large=True),
    "ViT-L/14@336": _published(336, 14, large=True),
}
"""The four sizes that OpenAI published, with quick-GELU."""
