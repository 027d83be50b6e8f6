"""Configuration of the clip_iqa network: its CLIP and its heads."""

import dataclasses
from typing import Literal

from jaxrecipes.fields import Checked, Count, Hparam, Layers, NonNegative, Probability, hparam
from jaxrecipes.models.clip.config import ClipConfig

HeadsMode = Literal["residual", "traditional"]


def _is_residual(heads: "HeadsConfig") -> bool:
    return heads.mode == "residual"


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadsConfig(Checked):
    """The heads."""

    mode: HeadsMode = "residual"
    """residual: each score is a simple one plus a bounded correction. traditional: no
    corrections."""
    residual_scale_q: Hparam[NonNegative] = hparam(0.2, search=(0.1, 0.5), when=_is_residual)
    """residual: how far the correction can move the quality."""
    residual_scale_c: Hparam[NonNegative] = hparam(0.2, search=(0.1, 0.5), when=_is_residual)
    """residual: how far the correction can move the consistency."""
    hidden_dim_q: Count = 128
    """residual: hidden width of the correction of the quality."""
    hidden_dim_c: Count = 256
    """Hidden width for the consistency; in residual mode a second hidden layer of 64 follows."""
    dropout: Hparam[Probability] = hparam(
        0.1, name="dropout_rate", when=_is_residual, off_at_zero=True
    )
    """residual: dropout rate of the corrections."""
    two_branch: bool = False
    """traditional: average the consistency with a score computed from the cosine alone."""
    refinement: bool = False
    """traditional: correct the consistency with a small transformer."""
    refinement_layers: Layers = 4
    """Layers of the refinement."""
    refinement_heads: Count = 8
    """Attention heads of the refinement; must divide refinement_dim."""
    refinement_dim: Count = 256
    """Width of the refinement."""
    refinement_dropout: Hparam[Probability] = hparam(
        0.1,
        name="refinement_dropout_rate",
        when=lambda heads: heads.refinement,
        off_at_zero=True,
    )
    """Dropout rate of the refinement."""

    def __post_init__(self):
        super().__post_init__()
        if self.refinement_dim % self.refinement_heads:
            raise ValueError(
                f"heads.refinement_heads {self.refinement_heads} do not divide "
                f"heads.refinement_dim {self.refinement_dim}"
            )
        if self.mode == "residual":
            for name in ("two_branch", "refinement"):
                if getattr(self, name):
                    raise ValueError(
                        f"heads.{name} belongs to the traditional heads; give --heads.mode "
                        f"traditional, or --heads.no_{name}"
                    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipIqaConfig(Checked):
    """A CLIP with heads.

    Attributes:
      clip: the two towers.
      heads: what is computed from their embeddings.
    """

    clip: ClipConfig
    heads: HeadsConfig = dataclasses.field(default_factory=HeadsConfig)
