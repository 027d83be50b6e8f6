"""What is said of a file that is almost a recipe, when it is loaded."""

import pytest

from jaxrecipes.runs.hooks import HOOKS
from jaxrecipes.runs.recipe_config import recipe_and_config
from jaxrecipes.runs.recipe_module import load_recipe, package_names, recipe_file

RECIPE = """
import dataclasses
from jaxrecipes.train.config import RunConfig

@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    width: int = 3

def load_data(config):
    return {"train": {"x": [1.0]}}

def make_recipe(config, data):
    return None
"""


def written(tmp_path, text, name="mine.py"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def make_recipe", "def makerecipe", r"has no make_recipe .*makerecipe"),
        ("class Config(RunConfig)", "class Konfig(RunConfig)", r"has no Config"),
        ("def make_recipe(config, data)", "def make_recipe(config)", r"as make_recipe\(config, d"),
        ("def load_data(config)", "def load_data()", r"has load_data\(\); it is called as load"),
        ("import dataclasses", "import dataclasses\nwrite_report = 3", r"has 3; it is called as w"),
        (
            "import dataclasses",
            "import dataclasses\ndef load_inputs(config): ...",
            r"has load_inputs\(config\); it is called as load_inputs\(config, inputs\)",
        ),
        (
            "import dataclasses",
            "import dataclasses\ndef prediction_colums(config, examples, outputs): ...",
            r"prediction_colums, which nothing calls; did you mean the hook prediction_columns",
        ),
        ("import dataclasses", "import dataclasses, nothing_such", r"mine.py, line 2: does not"),
    ],
)
def test_a_file_that_is_almost_a_recipe_is_named_with_what_is_wrong(tmp_path, old, new, message):
    assert old in RECIPE
    with pytest.raises(ValueError, match=message) as error:
        recipe_and_config(str(written(tmp_path, RECIPE.replace(old, new))))
    assert "mine.py" in str(error.value)


def test_a_file_may_not_take_the_name_of_a_recipe_of_the_library(tmp_path):
    with pytest.raises(ValueError, match="recipe of that name; call the file otherwise"):
        recipe_file(written(tmp_path, RECIPE, "ocec.py"))


def test_a_recipe_without_presets_has_the_default_alone(tmp_path):
    path = written(tmp_path, RECIPE)
    assert recipe_and_config(str(path), ["--width", "4"])[1].width == 4
    with pytest.raises(ValueError, match="unknown preset 'large'"):
        recipe_and_config(f"{path}:large")


def test_what_load_data_and_make_recipe_return_is_checked(tmp_path):
    recipe, config = recipe_and_config(str(written(tmp_path, RECIPE)))
    with pytest.raises(ValueError, match=r"make_recipe of mine.py returned a NoneType"):
        recipe.make_recipe(config, None)
    wrong = RECIPE.replace('"train"', '"training"')
    recipe, config = recipe_and_config(str(written(tmp_path, wrong)))
    with pytest.raises(
        ValueError, match=r"load_data of mine.py returned training; expected a dict"
    ):
        recipe.load_data(config)


def test_a_run_whose_recipe_is_missing_says_which_file(tmp_path):
    with pytest.raises(ValueError, match=r"file mine.py should be there but is not"):
        load_recipe("mine", tmp_path)


@pytest.mark.parametrize("name", package_names())
def test_every_hook_of_the_library_takes_what_it_is_called_with(name):
    recipe = load_recipe(name)
    assert {hook for hook in HOOKS if recipe.hook(hook)} >= {"check_config", "deployed"}
