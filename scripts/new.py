#!/usr/bin/env python3
"""Writes a recipe to start from: one file that trains within seconds, and its test.

python scripts/new.py NAME [--folder FOLDER]
"""

import pathlib
import sys

from jaxrecipes import cli
from jaxrecipes.runs.new_recipe import new_recipe


def main() -> None:
    flags = cli.parser(__doc__)
    flags.add_argument("name", help="of the recipe; its file is NAME.py")
    flags.add_argument(
        "--folder", type=cli.path, default=pathlib.Path(), help="where to (here by default)"
    )
    arguments = flags.parse_args()
    for file in new_recipe(arguments.name, arguments.folder):
        print(file)


if __name__ == "__main__":
    sys.exit(cli.run(main))
