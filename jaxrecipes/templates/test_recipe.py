"""The recipe learns, and goes on where it was stopped."""

import pathlib

import jaxrecipes.runs.train
from jaxrecipes.config import to_dict
from jaxrecipes.runs.recipe_config import recipe_and_config

FILE = pathlib.Path(__file__).with_name("recipe.py")


def train(workdir, *flags):
    recipe, config = recipe_and_config(str(FILE), flags)
    return jaxrecipes.runs.train.train(recipe, config, to_dict(config), workdir)


def test_it_learns(tmp_path):
    assert train(tmp_path).summary["best"]["accuracy_ema"] > 0.9


def test_a_run_goes_on_where_it_was_stopped(tmp_path):
    train(tmp_path, "--epochs", "1")
    recipe, config = recipe_and_config(str(FILE), ["--epochs", "2"])
    options = {"allow_config_change": True}
    finished = jaxrecipes.runs.train.train(recipe, config, to_dict(config), tmp_path, **options)
    assert finished.summary["final"]["epoch"] == 2
