"""Configuration of the OCEC network: the fields that every original checkpoint carries."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

from jaxrecipes.errors import unknown_name

ArchVariant = Literal["baseline", "inverted_se", "convnext"]
HeadVariant = Literal["auto", "avg", "avgmax_mlp", "transformer", "mlp_mixer"]

_AUTO_HEAD: dict[str, HeadVariant] = {
    "baseline": "avg",
    "inverted_se": "avgmax_mlp",
    "convnext": "transformer",
}


def _choice(field: str, value: Any, choices: tuple[str, ...]) -> Any:
    if not isinstance(value, str) or value.strip().lower() not in choices:
        raise unknown_name(field, str(value), choices)
    return value.strip().lower()


def _grid(value: Any) -> tuple[int, int]:
    """A pair of positive numbers, else (3, 2), as the original falls back."""
    try:
        rows, cols = (int(n) for n in value)
    except (TypeError, ValueError):
        return (3, 2)
    return (rows, cols) if rows > 0 and cols > 0 else (3, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OcecConfig:
    """Architecture of an open/closed eye classifier; the original's `model_config`.

    Values that the original tolerates are made regular here: counts below 1 become 1, a reduction
    below 0 becomes 0, texts become lower case, an empty `arch_variant` is "baseline", and a grid
    that is not a pair of positive numbers is (3, 2).

    Attributes:
      base_channels: channels after the stem.
      num_blocks: blocks; in every second block, from the third on, channels double and sizes halve.
      dropout: rate of the head's dropout. The network takes its rate at each call; this number only
        says what the original was configured with, which decides a key in its checkpoints.
      arch_variant: backbone.
      expansion: widening inside the blocks of inverted_se.
      se_reduction: squeeze-excite reduction of inverted_se; 0 for none.
      head_variant: head; "auto" is avg, avgmax_mlp or transformer for the three backbones.
      token_mixer_grid: (rows, columns) of tokens for the transformer and mlp_mixer heads.
      token_mixer_layers: layers of those heads.

    Raises:
      ValueError: unknown variant (names the nearest), `base_channels` below 1, `dropout` outside
        [0, 1).
    """

    base_channels: int = 32
    num_blocks: int = 4
    dropout: float = 0.3
    arch_variant: ArchVariant = "baseline"
    expansion: int = 4
    se_reduction: int = 8
    head_variant: HeadVariant = "auto"
    token_mixer_grid: tuple[int, int] = (2, 3)
    token_mixer_layers: int = 2

    def __post_init__(self):
        if self.base_channels < 1:
            raise ValueError(f"base_channels must be 1 or more, got {self.base_channels}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        regular = {
            "arch_variant": _choice(
                "arch_variant", self.arch_variant or "baseline", get_args(ArchVariant)
            ),
            "head_variant": _choice(
                "head_variant", self.head_variant or "auto", get_args(HeadVariant)
            ),
            "num_blocks": max(1, self.num_blocks),
            "expansion": max(1, self.expansion),
            "se_reduction": max(0, self.se_reduction),
            "token_mixer_grid": _grid(self.token_mixer_grid),
            "token_mixer_layers": max(1, self.token_mixer_layers),
        }
        for name, value in regular.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "OcecConfig":
        """From an original's `model_config`; absent fields take their defaults.

        Raises:
          ValueError: unknown fields (names the nearest), or what the constructor raises.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for name in config:
            if name not in names:
                raise unknown_name("field of model_config", name, names)
        return cls(**config)

    @property
    def head(self) -> HeadVariant:
        """The head in use, "auto" resolved."""
        return _AUTO_HEAD[self.arch_variant] if self.head_variant == "auto" else self.head_variant

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each block: 2 for blocks 2, 4, 6, ..., else 1."""
        return tuple(2 if i and i % 2 == 0 else 1 for i in range(self.num_blocks))

    @property
    def channels(self) -> tuple[int, ...]:
        """Output channels of each block; they double with each stride of 2."""
        return tuple(self.base_channels * 2 ** (i // 2) for i in range(self.num_blocks))


PUBLISHED: dict[str, OcecConfig] = {
    name: OcecConfig(num_blocks=blocks, arch_variant="inverted_se", head_variant="avgmax_mlp")
    for name, blocks in {"P": 1, "N": 2, "S": 4, "C": 5, "M": 6, "L": 8}.items()
}
"""The six published models, made for images of 24x40."""
