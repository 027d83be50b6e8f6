"""Pure loss functions.

Most return one value per example, not reduced; `composite_loss` averages named terms and weights
them. Losses that compare the examples of a batch with each other return a scalar and take a mask.
"""

from etils import epy

# Imported when first used: a recipe loads the losses that it has.
with epy.lazy_api_imports(globals()):
    from jaxrecipes.losses.binary import (
        bce_with_logits,
        focal_label_smooth_ce,
        prob_open,
        prob_open_from_focal,
    )
    from jaxrecipes.losses.composite import composite_loss
    from jaxrecipes.losses.contrastive import info_nce
    from jaxrecipes.losses.difficulty import difficulty_weights
    from jaxrecipes.losses.heatmap import gaussian_target, heatmap_cross_entropy
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
    from jaxrecipes.losses.robust import absolute, robust_l1
    from jaxrecipes.losses.similarity import (
        cosine_loss,
        cosine_similarity,
        mean_squared_error,
        unit,
    )
    from jaxrecipes.losses.triplets import Triplets, angle_triplet, angle_triplets
    from jaxrecipes.losses.weighting import LossWeighting, WeightingState

__all__ = [
    "LossWeighting",
    "Triplets",
    "WeightingState",
    "absolute",
    "angle_triplet",
    "angle_triplets",
    "bce_with_logits",
    "composite_loss",
    "cosine_loss",
    "cosine_similarity",
    "difficulty_weights",
    "focal_label_smooth_ce",
    "gaussian_target",
    "heatmap_cross_entropy",
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
    "robust_l1",
    "similarity_protection",
    "unit",
]
