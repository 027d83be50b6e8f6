"""The recipe and the config that `--config` names."""

import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrecipes.config import (
    FILE_MODULES,
    config_of,
    from_dict,
    import_file,
    with_fields,
    with_overrides,
)
from jaxrecipes.errors import shortened
from jaxrecipes.files import read_json
from jaxrecipes.paths import user_path
from jaxrecipes.runs.recipe_module import RecipeModule, load_recipe, recipe_file
from jaxrecipes.train.config import RunConfig


def recipe_and_config(spec: str, overrides: Sequence[str] = ()) -> tuple[RecipeModule, Any]:
    """The recipe and its config, changed by the flags after it.

    Args:
      spec: one of
        `NAME[:PRESET]`, a recipe of the library;
        `FILE.py[:PRESET]`, a recipe that is one file, or a file whose `get_config(preset)` returns
        the config of any recipe;
        the `config.json` of a run.
      overrides: flags of fields.

    Raises:
      ValueError: what `load_config` and `load_recipe` raise, or the file is not the config of a
        run.
    """
    if spec.endswith(".json"):
        return _of_run(user_path(spec), overrides, spec)
    path, _, preset = spec.partition(":")
    preset = preset or "default"
    if path.isidentifier():
        recipe = load_recipe(path)
        presets = recipe.hook("get_config")
        names = recipe.names if presets is None else sys.modules[presets.__module__]
        return recipe, config_of(names, preset, overrides, spec=spec)
    module = import_file(user_path(path))
    if not (hasattr(module, "make_recipe") or hasattr(module, "load_data")):
        config = config_of(module, preset, overrides, spec=spec)
        return recipe_of(config, f"get_config of {path} returned"), config
    recipe = recipe_file(user_path(path))
    config = config_of(module, preset, overrides, spec=spec)
    if not isinstance(config, recipe.Config):
        shown = shortened(repr(config), 80)
        raise ValueError(f"get_config of {path} returned {shown}; expected its Config")
    return recipe, config


def chosen(config: Any, fields: Mapping[str, Any] | None = None) -> tuple[RecipeModule, Any]:
    """The recipe and its config, with some values replaced by dotted name.

    Args:
      config: a recipe's config, or what `recipe_and_config` takes.
      fields: field -> new value, such as `{"optim.learning_rate": 3e-4}`.

    Raises:
      ValueError: what `recipe_and_config` raises, or there is no such field.
    """
    if isinstance(config, str):
        recipe, config = recipe_and_config(config)
    else:
        recipe = recipe_of(config, "the config is")
    return recipe, with_fields(config, fields)


def recipe_of(config: Any, where: str) -> RecipeModule:
    """The recipe that a config belongs to; `where` begins the message if there is none.

    Raises:
      ValueError: to none.
    """
    if isinstance(config, RunConfig):
        for kind in type(config).__mro__:
            module = sys.modules[kind.__module__]
            if kind.__module__.startswith(FILE_MODULES) and hasattr(module, "make_recipe"):
                return recipe_file(pathlib.Path(str(module.__file__)))
        if hasattr(config, "RECIPE"):
            return load_recipe(config.RECIPE)
    raise ValueError(
        f"{where} {shortened(repr(config), 80)}; expected a recipe's config, such as OcecRunConfig"
    )


def _of_run(path: pathlib.Path, overrides: Sequence[str], spec: str) -> tuple[RecipeModule, Any]:
    stored = read_json(path)
    if not isinstance(stored, dict) or "recipe" not in stored:
        raise ValueError(f"{spec} is not the config.json of a run: it names no recipe")
    recipe = load_recipe(stored.pop("recipe"), path.parent)
    return recipe, with_overrides(from_dict(recipe.Config, stored), overrides, spec)
