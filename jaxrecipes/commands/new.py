"""Writes a recipe to start from: one file that trains within seconds, and its test.

  jaxrecipes new NAME [--folder FOLDER]

Then train it with `jaxrecipes train --config NAME.py`; docs/tutorial.md explains such a file.
"""

import pathlib

from jaxrecipes import cli
from jaxrecipes.runs.new_recipe import new_recipe


def main() -> None:
    flags = cli.parser(__doc__)
    flags.add_argument("name", help="of the recipe, whose file is NAME.py")
    flags.add_argument(
        "--folder", type=cli.path, default=pathlib.Path(), help="where to (default: here)"
    )
    arguments = flags.parse_args()
    for file in new_recipe(arguments.name, arguments.folder):
        print(file)
