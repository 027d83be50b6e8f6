"""What a recipe offers to the commands, and how it is found by its name.

A recipe is a Python module with three names:

  Config                     its config, a frozen dataclass derived from `train.config.RunConfig`
  load_data(config)          its splits by name, `Examples` or dicts of arrays
  make_recipe(config, data)  the `train.recipe.Recipe` of a config, for data as `DataInfo` tells

Everything else is a hook that a recipe may have. A hook of a package lies in the file that
`_HOOK_FILES` names and is imported when it is first needed, so that training loads no export.
"""

import dataclasses
import importlib
import importlib.resources
import importlib.util
import inspect
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxrecipes.data.examples import Examples, as_examples
from jaxrecipes.data.order import TrainingOrder
from jaxrecipes.errors import unknown_name
from jaxrecipes.train.evaluate import Evaluation
from jaxrecipes.train.recipe import DataInfo, Recipe

_HOOK_FILES = {
    "check_config": "recipe",
    "training_order": "data",
    "load_inputs": "data",
    "prediction_columns": "report",
    "write_report": "report",
    "write_samples": "report",
    "deployed": "deploy",
    "import_torch": "original",
    "export_torch": "original",
    "get_config": "presets",
    "search_space": "presets",
}


@dataclasses.dataclass(frozen=True)
class RecipeModule:
    """A recipe as the commands see it.

    Attributes:
      name: what runs and checkpoints call it.
      names: the Python module, or anything else that has the three names.
    """

    name: str
    names: Any

    @property
    def Config(self) -> type:
        """The recipe's config dataclass."""
        return self.names.Config

    def hook(self, name: str) -> Callable[..., Any] | None:
        """An optional function of the recipe; None where it has none."""
        found = getattr(self.names, name, None)
        package = getattr(self.names, "__path__", None) and self.names.__name__
        if found is None and package:
            file = f"{package}.{_HOOK_FILES[name]}"
            if importlib.util.find_spec(file) is not None:
                found = getattr(importlib.import_module(file), name, None)
        return found

    def _offered(self, name: str, what: str) -> Callable[..., Any]:
        found = self.hook(name)
        if found is None:
            raise ValueError(f"the recipe {self.name} cannot {what}: it has no {name}")
        return found

    def check_config(self, config: Any) -> None:
        """Raises a ValueError for a config that cannot train, before any data is read."""
        check = self.hook("check_config")
        if check is not None:
            check(config)

    def load_data(
        self,
        config: Any,
        *,
        train: bool = True,
        report_dir: pathlib.Path | None = None,
        run_dir: pathlib.Path | None = None,
    ) -> dict[str, Examples]:
        """The splits that have examples.

        Args:
          config: the run's.
          train: whether the training split is wanted, or only those that are evaluated.
          report_dir: where the reader may leave notes.
          run_dir: of the run; what it holds out is on record there, see `data.held_out`.
        """
        load = self.names.load_data
        options = {"train": train, "report_dir": report_dir, "run_dir": run_dir}
        taken = inspect.signature(load).parameters
        splits = load(config, **{name: v for name, v in options.items() if name in taken})
        return {name: as_examples(split) for name, split in splits.items()}

    def make_recipe(self, config: Any, data: DataInfo) -> Recipe:
        """The recipe, called by its name."""
        return dataclasses.replace(self.names.make_recipe(config, data), name=self.name)

    def training_order(
        self, config: Any, train: Examples, *, batch_size: int
    ) -> TrainingOrder | None:
        """Which examples the steps see, `batch_size` in each; None: a new shuffle every epoch."""
        order = self.hook("training_order")
        return None if order is None else order(config, train, batch_size=batch_size)

    def write_report(
        self,
        config: Any,
        split: str,
        evaluation: Evaluation,
        examples: Examples,
        folder: pathlib.Path,
    ) -> None:
        """Plots of one split's evaluation, and for the test split its predictions."""
        write = self.hook("write_report")
        if write is not None:
            write(config, split, evaluation, examples, folder)

    def write_samples(
        self, recipe: Recipe, examples: Examples, hparams: Any, path: pathlib.Path
    ) -> None:
        """A picture of training examples as the step sees them."""
        write = self.hook("write_samples")
        if write is not None:
            write(recipe, examples, hparams, path)

    def load_inputs(self, config: Any, inputs: Sequence[pathlib.Path]) -> Examples:
        """Files, folders or parquet files to predict."""
        return as_examples(self._offered("load_inputs", "read files to predict")(config, inputs))

    def prediction_columns(
        self, config: Any, examples: Examples, outputs: Any
    ) -> Mapping[str, Sequence[Any]]:
        """Columns of the CSV that `predict` writes."""
        return self._offered("prediction_columns", "predict")(config, examples, outputs)

    def import_torch(self, source: pathlib.Path, workdir: pathlib.Path, *, use_torch: bool) -> None:
        """Turns a checkpoint of the original into a run's folder."""
        self._offered("import_torch", "read a PyTorch checkpoint")(
            source, workdir, use_torch=use_torch
        )

    def export_torch(self, trained: Any, target: pathlib.Path, *, weights: Any) -> None:
        """Writes a checkpoint that the original loads."""
        self._offered("export_torch", "write a PyTorch checkpoint")(
            trained, target, weights=weights
        )

    def deployed(self, trained: Any) -> Any:
        """What an exported file computes, a `runs.exports.Deployed`."""
        return self._offered("deployed", "be exported")(trained)


def load_recipe(name: object) -> RecipeModule:
    """The recipe of the package that is called `name`, which may come from a file and be anything.

    Raises:
      ValueError: there is none; the nearest is named.
    """
    folder = importlib.resources.files("jaxrecipes.recipes")
    names = sorted(f.name for f in folder.iterdir() if f.joinpath("recipe.py").is_file())
    if not isinstance(name, str) or name not in names:
        raise unknown_name("recipe", name, names)
    return RecipeModule(name, importlib.import_module(f"jaxrecipes.recipes.{name}"))
