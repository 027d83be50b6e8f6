"""OCEC: open or closed eyes."""

from jaxrecipes.recipes.ocec.config import OcecRunConfig as Config
from jaxrecipes.recipes.ocec.data import load_data
from jaxrecipes.recipes.ocec.recipe import make_recipe

__all__ = ["Config", "load_data", "make_recipe"]
