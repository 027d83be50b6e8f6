"""Pure losses, per example and not reduced; `composite_loss` weighs and averages named terms.

Losses that compare the examples of a batch with each other are scalars and take a mask.
"""

from jaxrecipes.losses.angle_triplet import Triplets, angle_triplet, angle_triplets
from jaxrecipes.losses.binary import (
    bce_with_logits,
    focal_label_smooth_ce,
    prob_open,
    prob_open_from_focal,
)
from jaxrecipes.losses.composite import composite_loss
from jaxrecipes.losses.contrastive import info_nce
from jaxrecipes.losses.difficulty import difficulty_weights
from jaxrecipes.losses.identity import (
    id_similarity,
    orthogonality,
    pose_bin,
    pose_consistency,
    pose_l1,
    reconstruction,
    similarity_protection,
)
from jaxrecipes.losses.mixed import mixed_loss
from jaxrecipes.losses.similarity import (
    cosine_loss,
    cosine_similarity,
    mean_squared_error,
    unit,
)

__all__ = [
    "Triplets",
    "angle_triplet",
    "angle_triplets",
    "bce_with_logits",
    "composite_loss",
    "cosine_loss",
    "cosine_similarity",
    "difficulty_weights",
    "focal_label_smooth_ce",
    "id_similarity",
    "info_nce",
    "mean_squared_error",
    "mixed_loss",
    "orthogonality",
    "pose_bin",
    "pose_consistency",
    "pose_l1",
    "prob_open",
    "prob_open_from_focal",
    "reconstruction",
    "similarity_protection",
    "unit",
]
