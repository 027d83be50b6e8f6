"""Optimizers as functions of hyperparameters, and what goes around them.

A recipe's `make_tx(h)` is called inside the step with `h`, the hyperparameters at that step: it
returns any optax transformation, whose state never holds a hyperparameter.
"""

from jaxrecipes.optim.clipping import clip_by_global_norm, global_norm
from jaxrecipes.optim.optimizers import adam, adamw, sgd
from jaxrecipes.optim.rules import (
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
    "clip_by_global_norm",
    "global_norm",
    "match_factors",
    "merge",
    "no_decay",
    "parameter_paths",
    "scale_by_rules",
    "sgd",
    "split_frozen",
]
