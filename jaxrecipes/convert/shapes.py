"""What the shapes of a state dict tell of the network."""

from collections.abc import Iterable, Mapping

import numpy as np

from jaxrecipes.convert.rules import ConversionError


def shapes_of(
    state_dict: Mapping[str, np.ndarray], needed: Iterable[str], *, network: str
) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors, by key.

    Raises:
      ConversionError: a tensor that is needed to tell the size of this `network` is missing.
    """
    absent = [key for key in needed if key not in state_dict]
    if absent:
        keys = ", ".join(absent)
        raise ConversionError(f"the size of this {network} cannot be inferred without {keys}")
    return {key: np.shape(array) for key, array in state_dict.items()}


def count_blocks(keys: Iterable[str], prefix: str) -> int:
    """How many blocks, numbered right after the prefix, the keys belong to."""
    return len({key[len(prefix) :].split(".")[0] for key in keys if key.startswith(prefix)})
