"""Many trials in one compiled program, each one equal to a run of its own.

`stack` puts the states of trials into lanes, `PopulationProgram` trains the lanes that are active,
`halving` and `pbt` decide who goes on, `take` gives a lane back as a state of its own. Nothing here
needs Optuna or a config.
"""

from jaxrecipes.population.halving import rungs, survivors
from jaxrecipes.population.lanes import put, stack, take
from jaxrecipes.population.lineage import Lineage
from jaxrecipes.population.pbt import Move, exploit, explore, scaled, with_factors
from jaxrecipes.population.program import PopulationProgram, active_lanes

__all__ = [
    "Lineage",
    "Move",
    "PopulationProgram",
    "active_lanes",
    "exploit",
    "explore",
    "put",
    "rungs",
    "scaled",
    "stack",
    "survivors",
    "take",
    "with_factors",
]
