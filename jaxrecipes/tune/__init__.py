"""Finding good hyperparameters."""

from typing import Literal

Sampler = Literal["tpe", "random"]
"""How values are drawn."""
Pruner = Literal["median", "percentile", "halving", "hyperband", "none"]
"""Which trials are stopped early."""
