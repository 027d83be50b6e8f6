"""Whether the metrics that a config selects and schedules by are there, and which end is better."""

from collections.abc import Collection

from jaxrecipes.errors import unknown_name
from jaxrecipes.train.config import RunConfig


def check_monitored(config: RunConfig, *, lower: Collection[str], higher: Collection[str]) -> None:
    """Checks select_metric, and what the plateau and early stopping watch where they are on.

    Args:
      config: the config.
      lower: metrics of the recipe that are better lower.
      higher: metrics of the recipe that are better higher.

    Raises:
      ValueError: a metric that the recipe does not have (names the nearest), or one whose better
        end is the other one.
    """
    for field, mode_field, name, mode in watched_metrics(config):
        if name not in (*lower, *higher):
            raise unknown_name(f"metric in {field}", name, (*lower, *higher))
        better = "min" if name in lower else "max"
        if mode != better:
            raise ValueError(
                f"{field} is {name!r} with {mode_field} {mode!r}, which prefers the worst; "
                f"give --{mode_field} {better}"
            )


def watched_metrics(config: RunConfig) -> list[tuple[str, str, str, str]]:
    """What the config selects by, and what the plateau and early stopping watch where they are on.

    Returns:
      (field, field of the mode, metric, mode) of each.
    """
    plateau, stopping = config.plateau, config.early_stopping
    watched: list[tuple[str, str, str, str]]
    watched = [("select_metric", "select_mode", config.select_metric, config.select_mode)]
    if config.optim.schedule == "plateau":
        watched.append(("plateau.monitor", "plateau.mode", plateau.monitor, plateau.mode))
    if stopping.patience_epochs is not None:
        fields = "early_stopping.monitor", "early_stopping.mode"
        watched.append((*fields, stopping.monitor, stopping.mode))
    return watched
