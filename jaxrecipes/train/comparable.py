"""A loss that can be compared over a run whose loss weights follow schedules.

While a weight rises the weighed sum rises as well, though each term may fall. What is monitored and
selected by is therefore weighed as the run's last step weighs; the sum under the weights of the
moment is kept beside it, as `loss_now`.
"""

from collections.abc import Mapping
from typing import Any

from jaxrecipes.schedules import constant
from jaxrecipes.train.recipe import Recipe

_WEIGHT = "loss_weight/"


def moving_weights(recipe: Recipe) -> list[str]:
    """The loss weights that follow a schedule."""
    hparams = recipe.hparams.items()
    return [n for n, s in hparams if n.startswith(_WEIGHT) and s.kind is not constant]


def with_loss_now(metrics: Mapping[str, float], recipe: Recipe, now: Any) -> dict[str, float]:
    """Metrics of an evaluation, whose `loss` is weighed for the run's end; `now` are the
    hyperparameters of the moment.
    """
    if not moving_weights(recipe):
        return dict(metrics)
    return {**metrics, "loss_now": _weighed(metrics, now)}


def with_end_weights(metrics: Mapping[str, float], recipe: Recipe, end: Any) -> dict[str, float]:
    """Metrics of training steps, whose `loss` is what they minimised; `end` are the hyperparameters
    of the run's last step.
    """
    if not moving_weights(recipe):
        return dict(metrics)
    return {**metrics, "loss": _weighed(metrics, end), "loss_now": metrics["loss"]}


def _weighed(metrics: Mapping[str, float], hparams: Mapping[str, Any]) -> float:
    terms = {
        f"loss/{name.removeprefix(_WEIGHT)}": weight
        for name, weight in hparams.items()
        if name.startswith(_WEIGHT)
    }
    return sum(float(weight) * metrics[term] for term, weight in terms.items() if term in metrics)
