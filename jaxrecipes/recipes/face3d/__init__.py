"""Face 3D transformer: side view to frontal embedding."""

from jaxrecipes.recipes.face3d.config import Face3DRunConfig as Config
from jaxrecipes.recipes.face3d.data import load_data
from jaxrecipes.recipes.face3d.recipe import make_recipe

__all__ = ["Config", "load_data", "make_recipe"]
