"""The rules that keep the house in order: who may import whom, and what a recipe costs to load."""

import ast
import collections
import itertools
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1] / "jaxrecipes"
FILES = sorted(ROOT.rglob("*.py"))
RECIPES = sorted(folder.parent.name for folder in ROOT.glob("recipes/*/recipe.py"))


def imports(file: pathlib.Path) -> set[str]:
    """The modules of ours that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{a.name}" for a in node.names]
        found.update(name for name in names if name.startswith("jaxrecipes."))
    return found


def room(parts: tuple[str, ...] | list[str]) -> str:
    """The first folder or file below the package."""
    return parts[0].removesuffix(".py")


def test_no_two_rooms_import_each_other():
    edges: dict[str, set[str]] = collections.defaultdict(set)
    for file in FILES:
        here = room(file.relative_to(ROOT).parts)
        edges[here] |= {room(name.split(".")[1:]) for name in imports(file)} - {here}
    mutual = [
        (a, b) for a, b in itertools.combinations(edges, 2) if b in edges[a] and a in edges[b]
    ]
    assert not mutual


def test_nothing_outside_recipes_names_a_recipe():
    names = re.compile(rf"(?<![A-Za-z]){'|'.join(RECIPES)}(?![A-Za-z])")
    naming = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in FILES
        if file.relative_to(ROOT).parts[0] not in ("recipes", "commands")
        for line in file.read_text().splitlines()
        if names.search(line)
    ]
    assert not naming


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_imports_no_other_recipe(name):
    others = set(RECIPES) - {name}
    for file in ROOT.glob(f"recipes/{name}/**/*.py"):
        taken = {
            name.split(".")[2] for name in imports(file) if name.startswith("jaxrecipes.recipes.")
        }
        assert not taken & others, file


@pytest.mark.parametrize("room", ["train", "models", "convert", "tune", "report", "runs"])
def test_the_library_imports_no_recipe(room):
    for file in ROOT.glob(f"{room}/**/*.py"):
        assert not any(name.startswith("jaxrecipes.recipes") for name in imports(file)), file


def test_training_eyes_loads_a_part_of_the_library():
    code = (
        "import sys; from jaxrecipes import cli\n"
        "from jaxrecipes.runs.recipe_config import recipe_and_config\n"
        "recipe_and_config('ocec')\n"
        "import jaxrecipes.runs.train\n"
        "print('\\n'.join(n for n in sys.modules if n.split('.')[0] == 'jaxrecipes'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True
    )
    loaded = done.stdout.split()
    assert not [name for name in loaded if re.search(r"hand|clip\b|clip_iqa|face|dinov2", name)]
    assert len(loaded) <= 110
