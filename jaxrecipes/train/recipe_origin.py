"""What a recipe is made from: its data, as far as it is told of it, and its own file."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import jax

from jaxrecipes.data.examples import Examples


@dataclasses.dataclass(frozen=True)
class RecipeFile:
    """The source of a recipe that is a single file; a run keeps a copy of it."""

    name: str
    content: bytes = dataclasses.field(repr=False)

    @property
    def digest(self) -> str:
        """What the content is recognised by."""
        return hashlib.sha256(self.content).hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataInfo:
    """What a recipe is told of the data that it is made for.

    Attributes:
      steps_per_epoch: optimizer steps between two validations; `epoch` in schedules.
      train: the training split, for statistics such as class weights; None where a stored run is
        opened without its data.
      example: shape and dtype of one example of each array; None for a run that did not store it.
    """

    steps_per_epoch: int
    train: Examples | None = None
    example: Mapping[str, jax.ShapeDtypeStruct] | None = None

    @classmethod
    def of(cls, train: Examples, *, steps_per_epoch: int) -> "DataInfo":
        """Of a training split."""
        example = {
            name: jax.ShapeDtypeStruct(array.shape[1:], array.dtype)
            for name, array in train.arrays.items()
        }
        return cls(steps_per_epoch=steps_per_epoch, train=train, example=example)

    @classmethod
    def stored(cls, metadata: Mapping[str, Any]) -> "DataInfo":
        """Of a checkpoint; see `example_as_json`."""
        example = metadata.get("example")
        if example is not None:
            example = {
                name: jax.ShapeDtypeStruct(tuple(one["shape"]), one["dtype"])
                for name, one in example.items()
            }
        return cls(steps_per_epoch=metadata["steps_per_epoch"], example=example)


def example_as_json(
    example: Mapping[str, jax.ShapeDtypeStruct] | None,
) -> dict[str, dict[str, Any]] | None:
    """What a checkpoint stores of `DataInfo.example`."""
    if example is None:
        return None
    return {
        name: {"shape": list(one.shape), "dtype": str(one.dtype)} for name, one in example.items()
    }
