"""A recipe to start from: one file that trains within seconds, and its test."""

import importlib.resources
import pathlib

from jaxrecipes.files import write_bytes
from jaxrecipes.runs.recipe_module import package_names


def new_recipe(name: str, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes `NAME.py` and `test_NAME.py`.

    Args:
      name: of the recipe, also used in runs and checkpoints.
      folder: where to write; created if
        needed.

    Raises:
      ValueError: the name is not a Python identifier, belongs to a recipe of the library, or a file
        exists already.
    """
    if not name.isidentifier() or name in package_names():
        raise ValueError(
            f"{name!r} cannot be a recipe's name; expected letters, digits and _, and none of "
            f"{', '.join(package_names())}"
        )
    templates = importlib.resources.files("jaxrecipes.templates")
    files = {f"{prefix}{name}.py": f"{prefix}recipe.py" for prefix in ("", "test_")}
    for file in files:
        if (folder / file).exists():
            raise ValueError(f"{folder / file} exists already; choose another name")
    for file, template in files.items():
        text = templates.joinpath(template).read_text()
        text = text.replace("recipe.py", f"{name}.py").replace("runs/recipe", f"runs/{name}")
        write_bytes(folder / file, text.encode())
    return [folder / file for file in files]
