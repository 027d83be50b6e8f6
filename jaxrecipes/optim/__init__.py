"""Optimizers as functions of hyperparameters, gradient clipping, and rules over parameter paths.

A recipe's `make_tx(h)` is called inside the step with `h`, the hyperparameters at that step, and
returns an optax transformation whose state holds no hyperparameters.
"""

from jaxrecipes.optim.adam import carry_over, late_paths, leaves_by_path, with_late
from jaxrecipes.optim.optimizers import adam, adamw, clip_by_global_norm, global_norm, sgd
from jaxrecipes.optim.rules import (
    layerwise_decay,
    match_factors,
    merge,
    no_decay,
    parameter_paths,
    scale_by_rules,
    split_frozen,
)

__all__ = [
    "adam",
    "adamw",
    "carry_over",
    "clip_by_global_norm",
    "global_norm",
    "late_paths",
    "layerwise_decay",
    "leaves_by_path",
    "match_factors",
    "merge",
    "no_decay",
    "parameter_paths",
    "scale_by_rules",
    "sgd",
    "split_frozen",
    "with_late",
]
