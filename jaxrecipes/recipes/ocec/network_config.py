"""Configuration of the OCEC network: the fields that every original checkpoint carries."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Interval

from jaxrecipes.errors import unknown_name
from jaxrecipes.fields import Checked, Count, Hparam, Share, hparam

ArchVariant = Literal["baseline", "inverted_se", "convnext"]
HeadVariant = Literal["auto", "avg", "avgmax_mlp", "transformer", "mlp_mixer"]

_AUTO_HEAD: dict[str, HeadVariant] = {
    "baseline": "avg",
    "inverted_se": "avgmax_mlp",
    "convnext": "transformer",
}


_LEAST = {"num_blocks": 1, "expansion": 1, "se_reduction": 0, "token_mixer_layers": 1}


def _word(value: Any, empty: str) -> Any:
    return value.strip().lower() or empty if isinstance(value, str) else value


def _grid(value: Any) -> Any:
    """A pair of positive numbers unchanged, and (3, 2) for any other pair, as in the original."""
    if not isinstance(value, list | tuple) or not all(type(n) is int for n in value):
        return value
    return tuple(value) if len(value) == 2 and min(value) > 0 else (3, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OcecConfig(Checked):
    """Architecture of an open/closed eye classifier; the original's `model_config`.

    Values that the original tolerates are normalised here: counts below 1 become 1, a reduction
    below 0 becomes 0, strings become lower case, an empty `arch_variant` is "baseline", and a grid
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

    base_channels: Count = 32
    num_blocks: Annotated[int, Interval(lt=1000)] = 4
    dropout: Hparam[Share] = hparam(0.3, name="dropout_rate", search=(0.0, 0.5), off_at_zero=True)
    arch_variant: ArchVariant = "baseline"
    expansion: int = 4
    se_reduction: int = 8
    head_variant: HeadVariant = "auto"
    token_mixer_grid: tuple[int, int] = (2, 3)
    token_mixer_layers: Annotated[int, Interval(lt=1000)] = 2

    def __post_init__(self):
        regular = {
            "arch_variant": _word(self.arch_variant, "baseline"),
            "head_variant": _word(self.head_variant, "auto"),
            "token_mixer_grid": _grid(self.token_mixer_grid),
        }
        for name, value in regular.items():
            object.__setattr__(self, name, value)
        super().__post_init__()
        for name, least in _LEAST.items():
            object.__setattr__(self, name, max(least, getattr(self, name)))

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
        """The head in use, with "auto" resolved."""
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
