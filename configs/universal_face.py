"""The presets of the recipe universal_face: see `jaxrecipes/recipes/universal_face/presets.py`."""

from jaxrecipes.recipes.universal_face.presets import PRESETS, get_config

__all__ = ["PRESETS", "get_config"]
