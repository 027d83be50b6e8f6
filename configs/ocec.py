"""The presets of the recipe ocec: see `jaxrecipes/recipes/ocec/presets.py`."""

from jaxrecipes.recipes.ocec.presets import PRESETS, get_config, search_space

__all__ = ["PRESETS", "get_config", "search_space"]
