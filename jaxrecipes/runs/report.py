"""The plots and the page of a finished run."""

import pathlib
from collections.abc import Mapping

from jaxrecipes.data.examples import Examples
from jaxrecipes.files import read_json
from jaxrecipes.report.curves import training_curves
from jaxrecipes.report.run_page import write_run_page
from jaxrecipes.runs.recipe_module import RecipeModule
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.recipe import Recipe
from jaxrecipes.train.run_state import Finished


def write_report(
    module: RecipeModule,
    config: RunConfig,
    recipe: Recipe,
    splits: Mapping[str, Examples],
    finished: Finished,
    workdir: pathlib.Path,
) -> pathlib.Path:
    """Writes curves, what the recipe shows of its evaluations and its augmentation, and the page
    of all.
    """
    plots = workdir / "plots"
    plots.mkdir(exist_ok=True)
    for split, evaluation in {"val": finished.val, "test": finished.test}.items():
        if evaluation is not None:
            module.write_report(config, split, evaluation, splits[split], plots)
    module.write_samples(recipe, splits["train"], finished.hparams, plots / "augmented_samples.png")
    history = read_json(workdir / "history.json")
    training_curves(history, plots / "curves.png", best_epoch=finished.summary["best"]["epoch"])
    return write_run_page(workdir)
