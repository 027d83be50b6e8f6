"""What a search found: its trials as plain rows, importances, and how the metric depends on each
parameter.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import optuna
from optuna.trial import TrialState

from jaxrecipes.tune.space import Choice, Distribution, Float, Int
from jaxrecipes.tune.study import Study, counted

_MAX_BINS = 4
_TOP_SHARE = 0.2
_FEW = 8  # trials; with fewer the numbers say little


Level = Literal["very high", "high", "medium", "low", "too few trials"]


@dataclasses.dataclass(frozen=True)
class TrialRow:
    """One trial.

    Attributes:
      number: of the trial.
      state: complete, pruned, failed or running.
      value: the best value of the metric that it reached, also where it was pruned; None if none.
      values: what it tried, by parameter.
      epochs: how many it trained.
      seconds: how long it took.
      reason: why it failed, or "".
      folder: where it ran, below the search's folder.
    """

    number: int
    state: Literal["complete", "pruned", "failed", "running"]
    value: float | None
    values: dict[str, Any]
    epochs: int
    seconds: float | None
    reason: str
    folder: str


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """How the metric depends on one parameter, over all values of the others that were tried.

    Attributes:
      parameter: its name.
      importance: share of what sets the better trials apart (PED-ANOVA), of all parameters 1;
        None where the trials are too few or too alike.
      effect: half the range of the metric's mean over groups of trials with similar values.
      level: in words, relative to the greatest effect.
      trend: what the metric does as the parameter grows.
      best: its value in the best trial.
      recommended: the range of its values, or the values, in the best fifth of the trials.
    """

    parameter: str
    importance: float | None
    effect: float
    level: Level
    trend: str
    best: Any
    recommended: str


def trial_rows(study: Study, *, mode: Literal["min", "max"]) -> list[TrialRow]:
    """Every trial that counts, in order."""
    states = {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
        TrialState.RUNNING: "running",
    }
    rows = []
    for trial in counted(study.study.get_trials(deepcopy=False)):
        reached = [v for v in trial.intermediate_values.values() if math.isfinite(v)]
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            reached.append(trial.value)
        best = min(reached, default=None) if mode == "min" else max(reached, default=None)
        failed = trial.state == TrialState.FAIL
        rows.append(
            TrialRow(
                number=trial.number,
                state=states[trial.state],  # type: ignore[arg-type]
                value=None if failed else best,
                values=study.values(trial.params),
                epochs=max(trial.intermediate_values, default=0),
                seconds=trial.duration.total_seconds() if trial.duration else None,
                reason=trial.user_attrs.get("reason", "its process died") if failed else "",
                folder=str(study.folder(trial).relative_to(study.workdir)),
            )
        )
    return rows


def best_row(rows: Sequence[TrialRow], *, mode: Literal["min", "max"]) -> TrialRow:
    """The best trial that ran to its end.

    Raises:
      ValueError: none did; says why the trials failed.
    """
    complete = [row for row in rows if row.state == "complete" and row.value is not None]
    if not complete:
        reasons = "\n  ".join(dict.fromkeys(row.reason for row in rows if row.reason))
        raise ValueError(
            f"none of {len(rows)} trials ran to its end"
            + (f"; they failed with\n  {reasons}" if reasons else "")
        )
    sign = 1.0 if mode == "min" else -1.0
    return min(complete, key=lambda row: sign * row.value)  # type: ignore[operator]


def weighed_study(
    rows: Sequence[TrialRow],
    parameters: Mapping[str, Distribution],
    distributions: Mapping[str, optuna.distributions.BaseDistribution],
    *,
    mode: Literal["min", "max"],
) -> optuna.Study | None:
    """The trials by which parameters are weighed, as a study in memory; None where they are too few
    or too alike to tell.

    Pruned trials count with the best value that they reached: leaving them out would hide what was
    so bad that it was stopped.
    """
    measured = _measured(rows)
    if len(measured) < _FEW or len({row.value for row in measured}) == 1:
        return None
    study = optuna.create_study(direction="minimize" if mode == "min" else "maximize")
    for row in measured:
        params = {name: _plain(row.values[name], parameters[name]) for name in row.values}
        study.add_trial(
            optuna.trial.create_trial(
                params=params, distributions=dict(distributions), value=row.value
            )
        )
    return study


def importances(weighed: optuna.Study | None) -> dict[str, float]:
    """PED-ANOVA importances of the parameters of a `weighed_study`, summing to 1.

    Source: Watanabe, Bansal, Hutter, "PED-ANOVA", 2023, as Optuna has it.
    """
    if weighed is None:
        return {}
    found = optuna.importance.get_param_importances(
        weighed, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
    )
    return {name: value for name, value in found.items() if math.isfinite(value)}


def sensitivities(
    rows: Sequence[TrialRow],
    parameters: Mapping[str, Distribution],
    importance: Mapping[str, float],
    *,
    mode: Literal["min", "max"],
) -> list[Sensitivity]:
    """One entry for each parameter, the most sensitive first."""
    measured = _measured(rows)
    best = best_row(rows, mode=mode)
    ranked = sorted(measured, key=lambda row: row.value, reverse=mode == "max")  # type: ignore[arg-type, return-value]
    top = ranked[: max(3, round(_TOP_SHARE * len(ranked)))]
    metric = np.array([row.value for row in measured], np.float64)
    found = []
    for name, distribution in parameters.items():
        groups = _groups([row.values[name] for row in measured], distribution)
        means = [float(metric[group].mean()) for group in groups.values()]
        effect = (max(means) - min(means)) / 2 if means else 0.0
        found.append(
            Sensitivity(
                parameter=name,
                importance=importance.get(name),
                effect=effect,
                level="too few trials",
                trend=_trend(means, list(groups), distribution),
                best=best.values[name],
                recommended=_recommended([row.values[name] for row in top], distribution),
            )
        )
    if len(measured) >= _FEW:
        most = max(s.effect for s in found)
        found = [dataclasses.replace(s, level=_level(s.effect, most)) for s in found]
    return sorted(found, key=lambda s: s.effect, reverse=True)


def _measured(rows: Sequence[TrialRow]) -> list[TrialRow]:
    return [row for row in rows if row.state in ("complete", "pruned") and row.value is not None]


def _groups(values: Sequence[Any], distribution: Distribution) -> dict[str, np.ndarray]:
    """Which trials lie in each group of similar values, in ascending order."""
    few = isinstance(distribution, Int) and len(set(values)) <= _MAX_BINS
    if isinstance(distribution, Choice) or few:
        options = distribution.options if isinstance(distribution, Choice) else sorted(set(values))
        order = [option for option in options if option in values]
        return {str(o): np.array([v == o for v in values]) for o in order}
    bins = max(2, min(_MAX_BINS, len(values) // 3))
    edges = np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1])
    index = np.searchsorted(edges, values, side="right")
    return {str(i): index == i for i in range(bins) if (index == i).any()}


def _trend(means: Sequence[float], names: Sequence[str], distribution: Distribution) -> str:
    if len(means) < 2:
        return "too few values"
    highest, lowest = int(np.argmax(means)), int(np.argmin(means))
    if isinstance(distribution, Choice):
        return f"highest with {names[highest]}, lowest with {names[lowest]}"
    steps = np.diff(means)
    if (steps >= 0).all():
        return "rises"
    if (steps <= 0).all():
        return "falls"
    if highest not in (0, len(means) - 1):
        return "highest in the middle"
    if lowest not in (0, len(means) - 1):
        return "lowest in the middle"
    return "mixed"


def _recommended(values: Sequence[Any], distribution: Distribution) -> str:
    if isinstance(distribution, Choice):
        return ", ".join(dict.fromkeys(str(v) for v in values))
    low, high = min(values), max(values)
    if isinstance(distribution, Int):
        return str(low) if low == high else f"{low} to {high}"
    return f"{low:.3g} to {high:.3g}"


def _level(effect: float, most: float) -> Level:
    """Four levels, by the share of the greatest effect."""
    share = effect / most if most > 0 else 0.0
    if share >= 0.8:
        return "very high"
    return "high" if share >= 0.4 else "medium" if share >= 0.2 else "low"


def _plain(value: Any, distribution: Distribution) -> Any:
    if isinstance(distribution, Choice) and not isinstance(value, bool | int | float | str):
        return None if value is None else repr(value)
    return float(value) if isinstance(distribution, Float) else value
