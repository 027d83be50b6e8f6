"""Schedules, functions of the step: small pytrees whose numbers are leaves and whose kind is
structure.

Any schedule can drive any hyperparameter. Its numbers may be traced, stacked for a population under
`vmap`, and differentiated. A step counts optimizer updates, or epochs inside `every`.
"""

from jaxrecipes.schedules.expression import check_text, parse
from jaxrecipes.schedules.kinds import (
    cosine,
    cyclic,
    delayed,
    every,
    exponential,
    join,
    linear,
    multistep,
    one_cycle,
    polynomial,
    ramp,
    scale,
    step_decay,
    warmup,
    warmup_cosine,
    warmup_linear,
)
from jaxrecipes.schedules.schedule import Schedule, ScheduleLike, as_schedule, constant, evaluate

__all__ = [
    "Schedule",
    "ScheduleLike",
    "as_schedule",
    "check_text",
    "constant",
    "cosine",
    "cyclic",
    "delayed",
    "evaluate",
    "every",
    "exponential",
    "join",
    "linear",
    "multistep",
    "one_cycle",
    "parse",
    "polynomial",
    "ramp",
    "scale",
    "step_decay",
    "warmup",
    "warmup_cosine",
    "warmup_linear",
]
