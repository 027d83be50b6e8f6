"""Examples that point into a shared table: many pairs of a few rows, without a copy of each row."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class IndexedRows:
    """Stands for `table[rows]`; on the host it can be used like that array, row by row.

    As a pytree it goes to the device as it is, and `data.feed.fetch` gathers through it.

    Attributes:
      table: `[T, ...]`, may be memory-mapped.
      rows: `[N]` int32 rows of the table, or `[N, T]` for examples of T rows.
    """

    table: Any
    rows: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """`(N, ...)`, or `(N, T, ...)` if an example has T rows."""
        return (*self.rows.shape, *self.table.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the table."""
        return self.table.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the table and the rows, which is what a device holds."""
        return self.table.nbytes + self.rows.nbytes

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        return self.table[self.rows[index]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy  # because gathering always makes a new array
        return np.asarray(self.table[self.rows], dtype)


Arrays = Mapping[str, np.ndarray | IndexedRows]
"""Examples of a split on the host: `[N, ...]` by name."""
