"""The presets of the recipe clip_iqa: see `jaxrecipes/recipes/clip_iqa/presets.py`."""

from jaxrecipes.recipes.clip_iqa.presets import PRESETS, get_config, search_space

__all__ = ["PRESETS", "get_config", "search_space"]
