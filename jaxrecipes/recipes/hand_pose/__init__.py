"""Pose, shape, place and joints of hands. Offers what `jaxrecipes.recipes.RecipeModule` names."""

from jaxrecipes.recipes.hand_pose.config import HandRunConfig as CONFIG
from jaxrecipes.recipes.hand_pose.data import load_inputs, load_splits, training_order
from jaxrecipes.recipes.hand_pose.recipe import check_config, make_recipe

__all__ = [
    "CONFIG",
    "check_config",
    "load_inputs",
    "load_splits",
    "make_recipe",
    "training_order",
]
