"""The splits of a recipe's data on the host."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from jaxrecipes.data.fingerprint import Identity
from jaxrecipes.data.indexed import Arrays


class Examples(Protocol):
    """One split, in order.

    Attributes:
      arrays: `[N, ...]` by name.
      identity: what the split is recognised by when a run goes on: names and labels, but neither
        pixels nor anything that a network computed.
      left_out: how many more examples there would be if they could be read.
    """

    @property
    def arrays(self) -> Arrays: ...

    @property
    def identity(self) -> Identity: ...

    @property
    def left_out(self) -> int: ...

    def __len__(self) -> int: ...


@dataclasses.dataclass(frozen=True)
class ArrayExamples:
    """A split that is nothing but its arrays, which are also its identity."""

    arrays: Arrays
    left_out: int = 0

    @property
    def identity(self) -> Identity:
        return self.arrays

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))


def as_examples(split: Any) -> Examples:
    """The split itself, or the arrays of a dict as a split."""
    return ArrayExamples(split) if isinstance(split, Mapping) else split
