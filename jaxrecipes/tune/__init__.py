"""Finding good hyperparameters."""

from typing import Literal

Sampler = Literal["tpe", "random", "grid", "cmaes", "gp"]
"""How values are drawn."""
Pruner = Literal["median", "percentile", "halving", "asha", "hyperband", "pbt", "none"]
"""Which trials are stopped early, or, with pbt, go on from another one."""
