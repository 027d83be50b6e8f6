"""Configuration of the universal face network, with the original's flag names."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from jaxrecipes.errors import unknown_name
from jaxrecipes.fields import Checked, Count, Hparam, Layers, Share, hparam

NUM_TOKENS = 8  # pieces that a feature is cut into, fixed in the original
_ALMOST = 0.8  # how like a field's a name is that is meant as it


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniversalFaceConfig(Checked):
    """Architecture of the pose-invariant identity network; names are the original's flags.

    Raises:
      ValueError: a size below 1, a feature size that the 8 tokens or the heads do not divide, or
        `dropout` outside [0, 1).
    """

    feat_dim: Count = 512
    """Numbers in an embedding; divisible by 8 and by transformer_heads."""
    id_dim: Count = 256
    """Numbers in the identity code."""
    pose_dim: Count = 128
    """Numbers in the pose code."""
    num_pose_bins: Count = 36
    """Pose prototypes."""
    transformer_depth: Layers = 6
    """Transformer blocks."""
    transformer_heads: Count = 8
    """Attention heads."""
    transformer_mlp_dim: Count = 1024
    """Width of the blocks' feed-forward part."""
    dropout: Hparam[Share] = hparam(0.1, name="dropout_rate", search=(0.0, 0.4), off_at_zero=True)
    """Dropout everywhere but on the attention probabilities, which have attention_dropout, and on
    the codes of phrases, which have pose_text_dropout."""
    use_clip_pose_encoder: bool = False
    """The attention sees the pose as CLIP's features of a phrase that describes it; a new run takes
    them from pose_text_clip."""
    pose_text_dim: Count = 512
    """use_clip_pose_encoder: numbers in these features; 512 for ViT-B."""

    def __post_init__(self):
        super().__post_init__()
        for name, divisor in (
            ("the 8 tokens", NUM_TOKENS),
            (f"the {self.transformer_heads} transformer_heads", self.transformer_heads),
        ):
            if self.feat_dim % divisor:
                raise ValueError(f"feat_dim is {self.feat_dim}; {name} must divide it")

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "UniversalFaceConfig":
        """From the original's `args`, whose other flags (paths, loss weights ...) are left out.

        An absent field takes the default of the original's command line.

        Raises:
          ValueError: a name that is almost a field's, or what the constructor raises.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for name in config:
            if name not in names and difflib.get_close_matches(name, names, cutoff=_ALMOST):
                raise unknown_name("field of the model", name, names)
        return cls(**{name: config[name] for name in names if name in config})

    def original_flags(self) -> dict[str, Any]:
        """The fields that the original has as flags."""
        flags = dataclasses.asdict(self)
        del flags["pose_text_dim"]
        return flags
