"""Which hyperparameter matters now: pairs of runs that differ in one of them alone."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from annotated_types import Interval
from optuna.trial import TrialState
from scipy import stats

from jaxrecipes.bounds import within
from jaxrecipes.fields import declared_hparams, leaves_of
from jaxrecipes.files import write_bytes, write_json
from jaxrecipes.report.page import Answer, Page, write_page
from jaxrecipes.report.sections import Section, Table, as_markdown, shown
from jaxrecipes.runs.recipe_module import RecipeModule
from jaxrecipes.tune.space import Distribution, Float, Space
from jaxrecipes.tune.study import Study, counted

_CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class OneAtATime(Space):
    """The config as it is, then each hyperparameter moved by itself.

    Attributes:
      points: the values of all parameters, first those of the config.
    """

    points: Sequence[dict[str, float]] = ()

    def start(self, base: Any) -> dict[str, Any]:
        """The config as it is; of a field whose value is a schedule the factor 1."""
        del base
        return self.points[0]

    def moves(self) -> dict[str, list[float]]:
        """Field -> the values that it is moved to."""
        base = self.points[0]
        return {
            name: [point[name] for point in self.points[1:] if point[name] != base[name]]
            for name in base
        }

    def grid(self) -> Iterator[dict[str, Any]]:
        """The other points."""
        yield from self.points[1:]


def one_at_a_time(config: Any, factors: Sequence[float], fixed: Sequence[str] = ()) -> OneAtATime:
    """Each hyperparameter that a config has, times each factor.

    Near an upper bound, as of a probability or a decay, it is the distance to the bound that is
    multiplied: 0.999 becomes 0.9987 and 0.9993 by factors of 0.7 and 1.3. Hyperparameters that are
    0 are left out; where the metric is the loss, so are its weights, which change it by definition.

    Args:
      config: of a recipe.
      factors: other than 1.
      fixed: fields to leave alone.

    Raises:
      ValueError: there is nothing to move.
    """
    bounds = declared_hparams(config)
    base: dict[str, float] = {}
    moves: dict[str, list[float]] = {}
    for leaf in leaves_of(config):
        weighs = leaf.name.startswith("loss_weight/") and config.select_metric == "loss"
        if weighs or leaf.path in fixed:
            continue
        value = 1.0 if isinstance(leaf.value, str) else float(leaf.value)
        kept = Interval() if isinstance(leaf.value, str) else bounds[leaf.name]
        found = moved(value, factors, kept)
        if found:
            base[leaf.path], moves[leaf.path] = value, found
    if not moves:
        raise ValueError("no hyperparameter of this config can be moved: all are 0 or fixed")
    parameters: dict[str, Distribution] = {
        path: Float(min(base[path], *found), max(base[path], *found))
        for path, found in moves.items()
    }
    others = [base | {path: value} for path, found in moves.items() for value in found]
    return OneAtATime(parameters, {}, [base, *others])


def moved(value: float, factors: Sequence[float], bounds: Interval) -> list[float]:
    """The value times each factor, or with its distance to the upper bound times 2 - factor where
    a product would leave the bounds; without what stays the same.
    """
    found = [value * factor for factor in factors]
    if not all(within(x, bounds) for x in found):
        top: Any = bounds.le if bounds.le is not None else bounds.lt
        found = [] if top is None else [top - (top - value) * (2.0 - f) for f in factors]
    found = [float(f"{x:.12g}") for x in found]  # 0.035, not 0.034999999999999996
    return [x for x in dict.fromkeys(found) if x != value and within(x, bounds)]


@dataclasses.dataclass(frozen=True)
class Effect:
    """What a metric does as one hyperparameter is moved.

    Attributes:
      parameter: its field.
      value: the config's; of a schedule the factor 1.
      moves: value that was tried -> mean change of the metric over the seeds.
      noise: how large a change of that mean chance explains, at 95 %; None with a single seed.
    """

    parameter: str
    value: float
    moves: dict[float, float]
    noise: float | None

    @property
    def largest(self) -> float:
        """The largest change, without its sign."""
        return max(map(abs, self.moves.values()))

    @property
    def verdict(self) -> str:
        """Whether it matters."""
        if self.noise is None:
            return "unknown: one seed shows no noise"
        return "matters" if self.largest > self.noise else "below the noise"

    def __str__(self) -> str:
        moves = ", ".join(f"{change:+.3g} at {shown(x)}" for x, change in self.moves.items())
        noise = "" if self.noise is None else f" (noise {self.noise:.2g})"
        return f"{self.parameter} {shown(self.value)}: {moves}{noise}, {self.verdict}"


def effects(
    points: Sequence[Mapping[str, float]], scores: Mapping[int, Sequence[float]]
) -> list[Effect]:
    """The effect of each hyperparameter, the largest first.

    A change is that between two runs of the same seed, so of the same weights, data and order. The
    noise is the spread of such changes over the seeds, pooled over all moves: a single move has too
    few seeds to tell it. Where a hyperparameter's effect differs between seeds the pool takes it
    for noise, which errs on the side of "below the noise".

    Args:
      points: the values of each trial, the first those of the config.
      scores: number of the trial -> its metric under each seed; without trials that failed.

    Raises:
      ValueError: the trial of the config itself failed.
    """
    if 0 not in scores:
        raise ValueError("the config as it is has no result to compare with; see its trial's error")
    base = np.asarray(scores[0])
    changes = {n: np.asarray(x) - base for n, x in scores.items() if n}
    seeds = len(base)
    noise = None
    if seeds > 1 and changes:
        spread = math.sqrt(np.mean([np.var(x, ddof=1) for x in changes.values()]))
        chance = stats.t.ppf(0.5 + _CONFIDENCE / 2, (seeds - 1) * len(changes))
        noise = float(chance * spread / math.sqrt(seeds))
    moves: dict[str, dict[float, float]] = {}
    for number, change in changes.items():
        (name,) = (n for n, x in points[number].items() if x != points[0][n])
        moves.setdefault(name, {})[points[number][name]] = float(change.mean())
    found = [Effect(name, points[0][name], by_value, noise) for name, by_value in moves.items()]
    return sorted(found, key=lambda effect: -effect.largest)


def write_sensitivity_report(
    study: Study,
    space: OneAtATime,
    *,
    recipe: RecipeModule,
    metric: str,
    mode: Literal["min", "max"],
    config_of: Callable[[int], Any],
) -> list[Effect]:
    """Writes sensitivity.json, report.md and report.html into the search's folder.

    Args:
      study: whose trials are the points of the space, in order.
      space: what was moved.
      recipe: what was trained; its hook `known_sensitivities` gives figures to compare with.
      metric: what counts.
      mode: whether lower or higher is better.
      config_of: number of a trial -> the config that it trained.

    Returns: the effects, the largest first.
    Raises: what `effects` raises.
    """
    scores = {
        trial.number: trial.user_attrs.get("seeds", [trial.value])
        for trial in counted(study.study.get_trials(deepcopy=False))
        if trial.state == TrialState.COMPLETE
    }
    found = effects(space.points, scores)
    write_json(
        study.workdir / "sensitivity.json",
        {
            "metric": metric,
            "mode": mode,
            "base": scores[0],
            "effects": [
                {
                    "parameter": effect.parameter,
                    "value": effect.value,
                    "moves": [{"to": to, "change": x} for to, x in effect.moves.items()],
                    "noise": effect.noise,
                    "verdict": effect.verdict,
                }
                for effect in found
            ],
        },
    )
    sections = [_section(found, len(scores[0]), metric=metric, mode=mode)]
    known = recipe.hook("known_sensitivities")
    if known is not None:
        sections.append(known(config_of(0)))
    write_bytes(
        study.workdir / "report.md",
        as_markdown("Sensitivity", sections, folder=study.workdir).encode(),
    )
    first, matter = found[0], [effect for effect in found if effect.verdict == "matters"]
    page = Page(
        title=f"Sensitivity of {recipe.name}",
        subtitle=f"{len(scores)} settings, {len(scores[0])} seeds each",
        answer=Answer(
            name=f"hyperparameters that {metric} depends on",
            value=f"{len(matter)} of {len(found)}",
            facts=[
                ("most on", first.parameter),
                ("its change", first.largest),
                ("noise (95 %)", first.noise),
            ],
        ),
        sections=sections,
    )
    write_page(page, study.workdir / "report.html")
    return found


def _section(found: Sequence[Effect], seeds: int, *, metric: str, mode: str) -> Section:
    rows = [
        [
            effect.parameter,
            effect.value,
            "; ".join(shown(x) for x in effect.moves),
            "; ".join(f"{x:+.2g}" for x in effect.moves.values()),
            effect.verdict,
        ]
        for effect in found
    ]
    better = "lower" if mode == "min" else "higher"
    noise = "unknown" if found[0].noise is None else f"{found[0].noise:.2g}"
    return Section(
        title="Sensitivity",
        note=f"Changes of {metric} ({better} is better) as one hyperparameter is moved and all "
        f"else stays, the seed too: means over {seeds} seeds. Chance explains changes up to the "
        f"noise, {noise} (95 %, pooled over all pairs). Values of a schedule are factors on it.",
        table=Table(
            head=["hyperparameter", "now", "moved to", "change", "verdict"],
            rows=rows,
        ),
    )
