"""Finding good hyperparameters."""

from typing import Literal

Sampler = Literal["tpe", "random", "grid", "cmaes", "gp"]
"""How values are drawn."""
Pruner = Literal["median", "percentile", "halving", "asha", "hyperband", "none"]
"""Which trials are stopped early."""
