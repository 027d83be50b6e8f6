"""Eye crops and their classes in memory."""

import dataclasses

import numpy as np

from jaxrecipes.data.fingerprint import Identity


@dataclasses.dataclass(frozen=True)
class Eyes:
    """One split in order.

    Attributes:
      arrays: `image` uint8 `[N, H, W, 3]` and `label` int32 `[N]`.
      names: `[N]` paths, or made-up names of embedded eyes.
      sources: `[N]` the video or collection that each comes from.
      left_out: images that could not be read.
    """

    arrays: dict[str, np.ndarray]
    names: list[str]
    sources: list[str]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.names)

    @property
    def identity(self) -> Identity:
        """Paths and labels."""
        return {"name": self.names, "label": self.arrays["label"]}
