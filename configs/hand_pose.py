"""The presets of the recipe hand_pose: see `jaxrecipes/recipes/hand_pose/presets.py`."""

from jaxrecipes.recipes.hand_pose.presets import PRESETS, get_config, search_space

__all__ = ["PRESETS", "get_config", "search_space"]
