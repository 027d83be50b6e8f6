"""The presets of the recipe face3d: see `jaxrecipes/recipes/face3d/presets.py`."""

from jaxrecipes.recipes.face3d.presets import PRESETS, get_config, search_space

__all__ = ["PRESETS", "get_config", "search_space"]
