"""Pure losses, per example and not reduced; `composite_loss` weighs and averages named terms."""

from jaxrecipes.losses.binary import (
    bce_with_logits,
    focal_label_smooth_ce,
    prob_open,
    prob_open_from_focal,
)
from jaxrecipes.losses.composite import composite_loss
from jaxrecipes.losses.mixed import mixed_loss

__all__ = [
    "bce_with_logits",
    "composite_loss",
    "focal_label_smooth_ce",
    "mixed_loss",
    "prob_open",
    "prob_open_from_focal",
]
