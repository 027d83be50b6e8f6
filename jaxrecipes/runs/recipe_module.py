"""What a recipe offers to the commands, and how it is found by its name or its file.

A recipe is a Python module with three names:

  Config                     its config, a frozen dataclass derived from `train.config.RunConfig`
  load_data(config)          its splits by name, dicts of arrays or `Examples`
  make_recipe(config, data)  the `train.recipe.Recipe` of a config, for data as `DataInfo` tells

It is a package of `jaxrecipes.recipes`, or one file anywhere. Everything else is a hook that it may
have, see `runs.hooks`. A package's hooks lie in files of their own, each imported when it is first
needed, so that training loads nothing that exports.
"""

import dataclasses
import importlib
import importlib.resources
import importlib.util
import inspect
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxrecipes.config import import_file
from jaxrecipes.data.examples import Examples, as_examples
from jaxrecipes.data.order import TrainingOrder
from jaxrecipes.errors import unknown_name
from jaxrecipes.runs.hooks import HOOKS, check_call, check_names
from jaxrecipes.train.evaluate import Evaluation
from jaxrecipes.train.recipe import DataInfo, Recipe, RecipeFile

_SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class RecipeModule:
    """A recipe as the commands see it.

    Attributes:
      name: what runs and checkpoints call it.
      names: the Python module, or anything else that has the three names.
      file: of a recipe that is one file.
    """

    name: str
    names: Any
    file: RecipeFile | None = None

    @property
    def Config(self) -> type:
        """The recipe's config dataclass."""
        return self.names.Config

    def __str__(self) -> str:
        return f"the recipe {self.name}" if self.file is None else self.file.name

    def hook(self, name: str) -> Callable[..., Any] | None:
        """An optional function of the recipe; None if it has none."""
        found, folder = getattr(self.names, name, None), getattr(self.names, "__path__", None)
        if found is None and folder is not None:
            file = f"{self.names.__name__}.{HOOKS[name].file}"
            if importlib.util.find_spec(file) is not None:
                found = getattr(importlib.import_module(file), name, None)
        if found is not None:
            check_call(found, name, HOOKS[name], str(self))
        return found

    def _call(self, name: str, *args: Any, **options: Any) -> Any:
        """What the hook returns; None if there is none."""
        found, hook = self.hook(name), HOOKS[name]
        if found is not None:
            return found(*args, **options)
        if hook.purpose:
            raise ValueError(f"{self} cannot {hook.purpose}: it has no {name}({hook.call})")
        return None

    def check_config(self, config: Any) -> None:
        """Raises a ValueError for a config that cannot train, before any data is read."""
        self._call("check_config", config)

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
          report_dir: where the loader may write notes.
          run_dir: of the run; what it holds out is on record there, see `data.held_out`.

        Raises:
          ValueError: the training split is missing, a split has another name, or arrays do not fit
            together; and what the recipe raises.
        """
        options = {"train": train, "report_dir": report_dir, "run_dir": run_dir}
        taken = inspect.signature(self.names.load_data).parameters
        splits = self.names.load_data(config, **{n: v for n, v in options.items() if n in taken})
        where = f"load_data of {self}"
        if not isinstance(splits, Mapping) or (train and "train" not in splits):
            has = ", ".join(splits) if isinstance(splits, Mapping) else type(splits).__name__
            raise ValueError(f"{where} returned {has or 'nothing'}; expected a dict with train")
        for name in splits:
            if name not in _SPLITS:
                raise unknown_name(f"split of {where}", name, _SPLITS)
        return {
            name: as_examples(split, f"{where}: the split {name}")
            for name, split in splits.items()
            if train or name != "train"
        }

    def make_recipe(self, config: Any, data: DataInfo) -> Recipe:
        """The recipe, with its origin, which runs store."""
        recipe = self.names.make_recipe(config, data)
        if not isinstance(recipe, Recipe):
            raise ValueError(
                f"make_recipe of {self} returned a {type(recipe).__name__}; expected a Recipe"
            )
        return dataclasses.replace(recipe, name=self.name, file=self.file, example=data.example)

    def training_order(
        self, config: Any, train: Examples, *, batch_size: int
    ) -> TrainingOrder | None:
        """Which examples the steps see, `batch_size` in each; None: a new shuffle every epoch."""
        return self._call("training_order", config, train, batch_size=batch_size)

    def write_report(
        self,
        config: Any,
        split: str,
        evaluation: Evaluation,
        examples: Examples,
        folder: pathlib.Path,
    ) -> None:
        """Plots of one split's evaluation, and for the test split its predictions."""
        self._call("write_report", config, split, evaluation, examples, folder)

    def write_samples(
        self, recipe: Recipe, examples: Examples, hparams: Any, path: pathlib.Path
    ) -> None:
        """Writes a picture of training examples as the step sees them."""
        self._call("write_samples", recipe, examples, hparams, path)

    def stand_in(self, config: Any) -> tuple[Any, int | None]:
        """What a run is planned with in place of its config, and how many examples it trains on if
        it makes them itself.

        The hook's config has the same network and shapes, a few made examples and no file to read;
        by default it is the config itself.

        Raises:
          ValueError: the shapes are known from the files alone.
        """
        return self._call("stand_in", config) or (config, None)

    def load_inputs(self, trained: Any, inputs: Sequence[pathlib.Path]) -> Examples:
        """What to predict of a `runs.trained.Trained`: files of any kind that the recipe reads.

        By default these are .npz and .npy files, see `runs.default_hooks`.
        """
        if self.hook("load_inputs") is None:
            from jaxrecipes.runs.default_hooks import load_inputs

            return load_inputs(trained, inputs)
        found = self._call("load_inputs", trained.config, inputs)
        return as_examples(found, f"load_inputs of {self}")

    def prediction_columns(
        self, config: Any, examples: Examples, outputs: Any
    ) -> Mapping[str, Sequence[Any]]:
        """Columns of the CSV that `predict` writes; by default all texts and all outputs."""
        if self.hook("prediction_columns") is None:
            from jaxrecipes.runs.default_hooks import prediction_columns

            return prediction_columns(examples, outputs)
        return self._call("prediction_columns", config, examples, outputs)

    def deployed(self, trained: Any) -> Any:
        """What an exported file of a `runs.trained.Trained` computes, a `runs.exports.Deployed`.

        By default what evaluation computes.
        """
        if self.hook("deployed") is None:
            from jaxrecipes.runs.default_hooks import deployed

            return deployed(trained)
        return self._call("deployed", trained)

    def import_torch(self, source: pathlib.Path, workdir: pathlib.Path, *, use_torch: bool) -> None:
        """Turns a checkpoint of the original into a run's folder."""
        self._call("import_torch", source, workdir, use_torch=use_torch)

    def export_torch(self, trained: Any, target: pathlib.Path, *, weights: Any) -> None:
        """Writes a checkpoint that the original loads."""
        self._call("export_torch", trained, target, weights=weights)


def load_recipe(name: object, folder: pathlib.Path | None = None) -> RecipeModule:
    """The recipe with this name, which may come from a file and be anything.

    Args:
      name: of a package, or `FILE.py`.
      folder: of a run, which has a copy of a recipe that is one file.

    Raises:
      ValueError: there is none (the nearest is named), or the file is no recipe.
    """
    known = package_names()
    if isinstance(name, str) and name in known:
        return RecipeModule(name, importlib.import_module(f"jaxrecipes.recipes.{name}"))
    if isinstance(name, str) and name.endswith(".py"):
        return recipe_file(pathlib.Path(name))
    if isinstance(name, str) and name.isidentifier() and folder is not None:
        copy = folder / f"{name}.py"
        if copy.is_file():
            return recipe_file(copy)
        raise ValueError(
            f"{folder} is of the recipe {name}, whose file {copy.name} should be there but is not; "
            f"bring it back. Recipes of the library: {', '.join(known)}"
        )
    raise unknown_name("recipe", name, known)


def recipe_file(path: pathlib.Path) -> RecipeModule:
    """The recipe in a single file.

    Raises:
      ValueError: the file does not run, is no recipe, or is called like a recipe of the library.
    """
    names = import_file(path)
    check_names(names, str(path))
    if path.stem in package_names() or not path.stem.isidentifier():
        why = "the library has a recipe of that name"
        why = why if path.stem.isidentifier() else "a recipe's name has letters, digits and _ alone"
        raise ValueError(f"{path}: {why}; call the file otherwise")
    return RecipeModule(path.stem, names, RecipeFile(path.name, path.read_bytes()))


def package_names() -> list[str]:
    """The names of the library's own recipes."""
    folder = importlib.resources.files("jaxrecipes.recipes")
    return sorted(f.name for f in folder.iterdir() if f.joinpath("recipe.py").is_file())
