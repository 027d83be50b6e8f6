"""The splits of a recipe's data on the host."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from jaxrecipes.data.fingerprint import Identity
from jaxrecipes.data.indexed_rows import Arrays, IndexedRows


class Examples(Protocol):
    """One split, in order.

    Attributes:
      arrays: `[N, ...]` by name.
      identity: how the split is recognised when a run is resumed: names and labels, but neither
        pixels nor anything that a network computed.
      left_out: the number of examples that could not be read.
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
    """A split that consists only of its arrays, by which it is also recognised.

    Attributes:
      arrays: `[N, ...]` by name.
      texts: `[N]` strings by name, such as the name of each example; they stay on the host.
    """

    arrays: Arrays
    texts: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    left_out: int = 0

    @property
    def identity(self) -> Identity:
        return {**self.arrays, **self.texts}

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))


def as_examples(split: Any, where: str) -> Examples:
    """Makes a split from a dict of arrays and lists of strings; returns a split unchanged.

    64-bit numbers are converted to the 32 bits that a device computes with.

    Args:
      split: the dict, or the split.
      where: what it is, for messages: "load_data of my_recipe.py:
        the split train".

    Raises:
      ValueError: there is no array, lengths differ, or numbers do not fit into 32 bits.
    """
    if not isinstance(split, Mapping):
        if not hasattr(split, "arrays"):
            raise ValueError(
                f"{where} is a {type(split).__name__}; expected a dict of arrays, or `Examples`"
            )
        return split
    arrays, texts = {}, {}
    for name, values in split.items():
        array = values if isinstance(values, IndexedRows) else np.asarray(values)
        if isinstance(array, np.ndarray) and array.dtype.kind in "UO":
            texts[name] = [str(value) for value in array.tolist()]
        else:
            arrays[name] = _in_32_bits(array, f"{where}, {name}")
    lengths = {name: len(x) if len(np.shape(x)) else 0 for name, x in {**arrays, **texts}.items()}
    if not arrays or len(set(lengths.values())) > 1 or 0 in lengths.values():
        counts = ", ".join(f"{name} {count}" for name, count in lengths.items())
        raise ValueError(
            f"{where} has arrays of the lengths {counts or 'none'}; expected arrays [N, "
            f"...] of one N"
        )
    return ArrayExamples(arrays, texts)


def _in_32_bits(array: np.ndarray | IndexedRows, where: str) -> np.ndarray | IndexedRows:
    narrow = {"f": np.float32, "i": np.int32, "u": np.uint32}
    if isinstance(array, IndexedRows) or array.dtype.kind == "b":
        return array
    if array.dtype.kind not in narrow:
        raise ValueError(f"{where} is an array of {array.dtype}; expected numbers or strings")
    if array.dtype.itemsize <= 4:
        return array
    with np.errstate(over="ignore"):  # reported below
        cast = array.astype(narrow[array.dtype.kind])
    if array.dtype.kind != "f" and (cast != array).any():
        raise ValueError(f"{where} has numbers that do not fit {cast.dtype}")
    if array.dtype.kind == "f" and not np.array_equal(np.isfinite(cast), np.isfinite(array)):
        raise ValueError(f"{where} has numbers that do not fit float32")
    return cast
