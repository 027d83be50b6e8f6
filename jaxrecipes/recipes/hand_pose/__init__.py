"""Pose, shape, place and joints of hands."""

from jaxrecipes.recipes.hand_pose.config import HandRunConfig as Config
from jaxrecipes.recipes.hand_pose.data import load_data
from jaxrecipes.recipes.hand_pose.recipe import make_recipe

__all__ = ["Config", "load_data", "make_recipe"]
