"""What evaluation reads and returns, found by tracing it with shapes only."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from jaxrecipes.errors import unknown_name
from jaxrecipes.train.config import RunConfig, watched_metrics
from jaxrecipes.train.recipe import Recipe


def outputs_of(
    recipe: Recipe, hparams: Mapping[str, Any], variables: Mapping[str, Any], batch: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """The network's outputs in evaluation, and the batch as evaluation sees it."""
    batch = recipe.preprocess(batch)
    outputs, _ = recipe.apply_fn(
        variables["params"],
        variables["batch_stats"],
        recipe.inputs(batch),
        hparams=hparams,
        train=False,
        key=jax.random.key(0),
    )
    return outputs, batch


def example_of(recipe: Recipe) -> Mapping[str, jax.ShapeDtypeStruct]:
    """Shape and dtype of one example of each array.

    Raises:
      ValueError: the run did not store them.
    """
    if recipe.example is None:
        raise ValueError(
            f"the run of {recipe.name} does not say what its examples look like; it was started by "
            "an earlier version"
        )
    return recipe.example


def read_names(recipe: Recipe) -> list[str]:
    """The arrays that evaluation reads to predict, in the order in which it reads them."""

    def predict(hparams: Any, variables: Any, batch: dict[str, Any]) -> Any:
        return recipe.predictions(*outputs_of(recipe, hparams, variables, batch))

    names: list[str] = []
    while True:
        try:
            jax.eval_shape(predict, *_shapes(recipe, names))
        except KeyError as error:
            missing = error.args[0]
            if missing not in example_of(recipe) or missing in names:
                raise
            names.append(missing)
        else:
            return names


def check_watched(config: RunConfig, recipe: Recipe) -> None:
    """Checks that the metrics for selection, plateau and early stopping exist.

    Raises:
      ValueError: one is not there; names the nearest.
    """
    if recipe.pass_metrics is not None:
        return  # their names are known only when they are computed

    def evaluate(hparams: Any, variables: Any, batch: dict[str, Any]) -> Any:
        outputs, batch = outputs_of(recipe, hparams, variables, batch)
        found = recipe.metrics(outputs, batch, hparams)
        terms = recipe.loss_terms(outputs, batch, hparams)
        return terms, {name: metric.compute() for name, metric in found.items()}

    shapes = _shapes(recipe, example_of(recipe))
    shapes[-1]["mask"] = jax.ShapeDtypeStruct((2,), np.float32)
    terms, metrics = jax.eval_shape(evaluate, *shapes)
    names = {"loss", *(f"loss/{term}" for term in terms)}
    for name, value in metrics.items():
        names |= value.keys() if isinstance(value, dict) else {name}
    for field, _, name, _ in watched_metrics(config):
        if name not in names:
            raise unknown_name(f"metric in {field}", name, names)


def _shapes(recipe: Recipe, names: Iterable[str]) -> tuple[Any, Any, dict[str, Any]]:
    """Hyperparameters, variables, and two examples of some arrays."""
    example = example_of(recipe)
    params, batch_stats = jax.eval_shape(recipe.init, jax.random.key(0))
    return (
        {name: jax.ShapeDtypeStruct((), np.float32) for name in recipe.hparams},
        {"params": params, "batch_stats": batch_stats},
        {n: jax.ShapeDtypeStruct((2, *example[n].shape), example[n].dtype) for n in names},
    )
