"""Universal face: pose-invariant identity."""

from jaxrecipes.recipes.universal_face.config import UniversalFaceRunConfig as Config
from jaxrecipes.recipes.universal_face.data import load_data
from jaxrecipes.recipes.universal_face.recipe import make_recipe

__all__ = ["Config", "load_data", "make_recipe"]
