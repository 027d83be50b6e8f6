"""What predict and export do for a recipe without hooks of its own."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxrecipes.data.examples import Examples, as_examples
from jaxrecipes.errors import telling
from jaxrecipes.runs.evaluation_shapes import example_of, outputs_of, read_names
from jaxrecipes.runs.exports import Deployed
from jaxrecipes.runs.trained import Trained
from jaxrecipes.train.recipe import DataInfo


def load_inputs(trained: Trained, inputs: Sequence[pathlib.Path]) -> Examples:
    """Arrays from .npz files, by their names, and from .npy files, as the network's first input.

    What only the loss and the metrics need is filled with zeros.

    Raises:
      ValueError: another kind of file, an array that is missing or of another shape.
    """
    example, needed = example_of(trained.recipe), read_names(trained.recipe)
    parts = [_arrays(path, needed, example) for path in inputs]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in needed}
    count = len(arrays[needed[0]])
    for name, one in example.items():
        arrays.setdefault(name, np.zeros((count, *one.shape), one.dtype))
    return as_examples(arrays, ", ".join(map(str, inputs)))


def prediction_columns(examples: Examples, outputs: Any) -> dict[str, Sequence[Any]]:
    """The strings of the examples, or their row numbers, and every number of the outputs."""
    columns: dict[str, Sequence[Any]] = {**getattr(examples, "texts", {})}
    columns = columns or {"example": range(len(examples))}
    for name, array in named_outputs(outputs).items():
        flat = np.asarray(array).reshape(len(examples), -1)
        many = np.ndim(array) > 1
        for i, values in enumerate(flat.T):
            columns[f"{name}_{i}" if many else name] = list(values)
    return columns


def deployed(trained: Trained) -> Deployed:
    """The function that evaluation computes from the arrays that it reads, in float32."""
    config = dataclasses.replace(trained.config, precision="float32")
    example = example_of(trained.recipe)
    data = DataInfo(steps_per_epoch=trained.metadata["steps_per_epoch"], example=example)
    recipe, hparams = trained.module.make_recipe(config, data), trained.hparams

    def evaluate(variables: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        outputs, batch = outputs_of(recipe, hparams, variables, inputs)
        return named_outputs(recipe.predictions(outputs, batch))

    rng, examples = np.random.default_rng(0), {}
    for name in read_names(recipe):
        one = example[name]
        drawn = rng.normal(size=(8, *one.shape))
        examples[name] = (drawn if one.dtype.kind == "f" else drawn > 0).astype(one.dtype)
    return Deployed(function=evaluate, examples=examples)


def named_outputs(outputs: Any) -> dict[str, Any]:
    """The arrays of a pytree by name: its keys joined by "_", or `output` for a single array."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(outputs)
    return {
        "_".join(str(getattr(k, "key", getattr(k, "idx", k))) for k in path) or "output": leaf
        for path, leaf in leaves
    }


def _arrays(
    path: pathlib.Path, needed: Sequence[str], example: Mapping[str, jax.ShapeDtypeStruct]
) -> dict[str, np.ndarray]:
    """The arrays of one file, in the shapes and dtypes of examples."""
    if path.suffix not in (".npz", ".npy"):
        raise ValueError(f"{path}: expected a .npz file with {', '.join(needed)}, or a .npy file")
    with telling(f"{path} cannot be read", ValueError, EOFError):
        found = np.load(path, allow_pickle=False)
        arrays = {needed[0]: found} if path.suffix == ".npy" else dict(found)
    given = {}
    for name in needed:
        if name not in arrays:
            raise ValueError(f"{path} has no array {name}; it has {', '.join(arrays) or 'none'}")
        array, one = arrays[name], example[name]
        if array.shape[1:] != one.shape or array.ndim == 0:
            raise ValueError(
                f"{path}: {name} has the shape {list(array.shape)}; expected {['N', *one.shape]}"
            )
        cast = array.astype(one.dtype)
        if one.dtype.kind != "f" and not np.array_equal(cast, array):
            raise ValueError(f"{path}: {name} is of {array.dtype}, which does not fit {one.dtype}")
        given[name] = cast
    return given
