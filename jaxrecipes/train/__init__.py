"""Training: one state, one pure step, one loop, for every recipe."""

from jaxrecipes.train.recipe import DataInfo, Recipe
from jaxrecipes.train.state import TrainState, create_state
from jaxrecipes.train.step import StepMetrics, current_hparams, make_train_step

__all__ = [
    "DataInfo",
    "Recipe",
    "StepMetrics",
    "TrainState",
    "create_state",
    "current_hparams",
    "make_train_step",
]
