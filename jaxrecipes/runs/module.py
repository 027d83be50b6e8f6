"""What a recipe's package offers, and how it is found by its name."""

import importlib
import importlib.resources
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from jaxrecipes.data.fingerprint import Identity
from jaxrecipes.data.indexed import Arrays
from jaxrecipes.data.order import TrainingOrder
from jaxrecipes.errors import unknown_name
from jaxrecipes.train.evaluate import Evaluation
from jaxrecipes.train.recipe import Recipe


class Examples(Protocol):
    """One split on the host, in order.

    Attributes:
      arrays: `[N, ...]` by name.
      identity: what the split is known by when a run goes on: names and labels, and neither pixels
        nor what a network computed.
      left_out: how many more examples there would be if they could be read.
    """

    @property
    def arrays(self) -> Arrays: ...

    @property
    def identity(self) -> Identity: ...

    @property
    def left_out(self) -> int: ...

    def __len__(self) -> int: ...


class RecipeModule(Protocol):
    """What the scripts call.

    Attributes:
      CONFIG: the recipe's config dataclass, a `RunConfig` whose `RECIPE` is the module's name.
    """

    CONFIG: type

    def check_config(self, config: Any) -> None:
        """Raises a ValueError for a config that cannot train, before any data is read."""

    def load_splits(
        self,
        config: Any,
        *,
        report_dir: pathlib.Path | None,
        train: bool,
        run_dir: pathlib.Path | None = None,
    ) -> Mapping[str, Examples]:
        """The splits that have examples; without `train` those that are evaluated.

        What a run holds out is on record in its folder `run_dir`, see `data.held_out`.
        """

    def make_recipe(
        self, config: Any, *, steps_per_epoch: int, train: Examples | None = None
    ) -> Recipe:
        """The recipe; `train` is the training split, for statistics such as class weights."""

    def training_order(
        self, config: Any, train: Examples, *, batch_size: int
    ) -> TrainingOrder | None:
        """Which examples the steps see, `batch_size` in each; None: a new shuffle every epoch."""

    def write_report(
        self,
        config: Any,
        split: str,
        evaluation: Evaluation,
        examples: Examples,
        folder: pathlib.Path,
    ) -> None:
        """Plots of one split's evaluation, and for the test split its predictions."""

    def write_samples(
        self, recipe: Recipe, examples: Examples, hparams: Any, path: pathlib.Path
    ) -> None:
        """A picture of training examples as the step sees them."""

    def load_inputs(self, config: Any, inputs: Sequence[pathlib.Path]) -> Examples:
        """Files, folders or parquet files to predict."""

    def prediction_columns(
        self, config: Any, examples: Examples, outputs: Any
    ) -> dict[str, Sequence[Any]]:
        """Columns of the CSV that `predict` writes."""

    def import_torch(self, source: pathlib.Path, workdir: pathlib.Path, *, use_torch: bool) -> None:
        """Turns a checkpoint of the original into a run's folder."""

    def export_torch(self, trained: Any, target: pathlib.Path, *, weights: Any) -> None:
        """Writes a checkpoint that the original loads."""

    def deployed(self, trained: Any) -> Any:
        """What an exported file computes, a `recipes.exports.Deployed`."""


def load(name: object) -> RecipeModule:
    """The recipe called `name`, which may come from a file and be anything.

    Raises:
      ValueError: there is none; the nearest is named.
    """
    folder = importlib.resources.files("jaxrecipes.recipes")
    names = sorted(f.name for f in folder.iterdir() if f.joinpath("recipe.py").is_file())
    if name not in names:
        raise unknown_name("recipe", name, names)
    return cast(RecipeModule, importlib.import_module(f"jaxrecipes.recipes.{name}"))
