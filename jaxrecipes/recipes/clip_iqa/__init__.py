"""Quality and prompt consistency of generated images."""

from jaxrecipes.recipes.clip_iqa.config import IqaRunConfig as Config
from jaxrecipes.recipes.clip_iqa.data import load_data
from jaxrecipes.recipes.clip_iqa.recipe import make_recipe

__all__ = ["Config", "load_data", "make_recipe"]
