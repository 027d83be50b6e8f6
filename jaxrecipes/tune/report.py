"""What a search leaves: the best config as files that train.py takes, tables, plots and a page."""

import csv
import dataclasses
import io
import pathlib
from collections.abc import Sequence
from typing import Any, Literal

from jaxrecipes.config import to_dict
from jaxrecipes.files import write_bytes
from jaxrecipes.json_files import write_json
from jaxrecipes.report.progress import duration
from jaxrecipes.runs.recipe_module import RecipeModule
from jaxrecipes.tune.config_file import write_config_file
from jaxrecipes.tune.plots import write_plots
from jaxrecipes.tune.results import (
    Sensitivity,
    TrialRow,
    best_row,
    importances,
    sensitivities,
    trial_rows,
    weighed_study,
)
from jaxrecipes.tune.space import Space
from jaxrecipes.tune.study import Study

_SHOWN = 10


def write_search_report(
    study: Study,
    base: Any,
    space: Space,
    *,
    recipe: RecipeModule,
    metric: str,
    mode: Literal["min", "max"],
) -> TrialRow:
    """Writes trials.csv, trials.json, search.json, best.py, best_config.json, plots/*.png and
    report.md into the search's folder, and a copy of a recipe that is one file.

    Args:
      study: the search.
      base: the config that trials start from.
      space: what they varied.
      recipe: what they trained.
      metric: what they were compared by.
      mode: whether lower or higher is better.

    Returns:
      The best trial.

    Raises:
      ValueError: no trial ran to its end. The tables of trials are there.
    """
    rows, workdir = trial_rows(study, mode=mode), study.workdir
    write_json(workdir / "trials.json", [dataclasses.asdict(row) for row in rows])
    write_bytes(workdir / "trials.csv", _csv(rows, list(space.parameters)).encode())
    best = best_row(rows, mode=mode)
    config = space.config(base, best.values)
    write_json(workdir / "best_config.json", {"recipe": recipe.name} | to_dict(config))
    if recipe.file is not None:
        write_bytes(workdir / recipe.file.name, recipe.file.content)
    about = f"The best of {len(rows)} trials: trial {best.number}, {metric} {best.value:.5g}."
    write_config_file(config, workdir / "best.py", about=about)

    weighed = weighed_study(rows, space.parameters, study.distributions, mode=mode)
    shares = importances(weighed)
    table = sensitivities(rows, space.parameters, shares, mode=mode)
    found = {
        "metric": metric,
        "mode": mode,
        "best": dataclasses.asdict(best),
        "importances": shares,
        "sensitivity": [dataclasses.asdict(entry) for entry in table],
    }
    write_json(workdir / "search.json", found)
    write_plots(study.study, weighed, workdir / "plots", metric=metric)
    page = _page(
        rows,
        best,
        table,
        space,
        metric=metric,
        mode=mode,
        about=about,
        plots=sorted((workdir / "plots").glob("*.png")),
    )
    write_bytes(workdir / "report.md", page.encode())
    return best


def _csv(rows: Sequence[TrialRow], names: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    facts = ("number", "state", "value", "epochs", "seconds", "reason", "folder")
    writer.writerow([*facts[:3], *names, *facts[3:]])
    for row in rows:
        before, after = ([getattr(row, name) for name in f] for f in (facts[:3], facts[3:]))
        writer.writerow([*before, *(row.values.get(name) for name in names), *after])
    return text.getvalue()


def _page(
    rows: Sequence[TrialRow],
    best: TrialRow,
    table: Sequence[Sensitivity],
    space: Space,
    *,
    metric: str,
    mode: Literal["min", "max"],
    about: str,
    plots: Sequence[pathlib.Path],
) -> str:
    states = [row.state for row in rows]
    counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    spent = sum(row.seconds or 0.0 for row in rows)
    sign = 1.0 if mode == "min" else -1.0
    ranked = sorted(
        (row for row in rows if row.state == "complete"), key=lambda r: sign * (r.value or 0.0)
    )
    sensitivity = [
        [
            s.parameter,
            s.level,
            f"±{s.effect:.2g}",
            "" if s.importance is None else f"{s.importance:.2f}",
            s.trend,
            _cell(s.best),
            s.recommended,
        ]
        for s in table
    ]
    names = list(space.parameters)
    trials = [
        [str(r.number), _cell(r.value), *(_cell(r.values[n]) for n in names), str(r.epochs)]
        for r in ranked[:_SHOWN]
    ]
    failed = [[str(row.number), row.reason.split("\n")[0]] for row in rows if row.reason]
    better = "lower" if mode == "min" else "higher"
    sections = [
        "# Search",
        f"{about} {counts}; {duration(spent)} of trials. `{metric}`: {better} is better.",
        "To train it, in this folder:",
        "    jaxrecipes train --config best.py",
        f"Its weights are in `{best.folder}`.",
        "## Sensitivity",
        "The effect is half the range of the metric's mean over groups of trials with similar "
        "values; levels are relative to the greatest. Pruned trials count with the best that they "
        "reached. Recommended are the values of the best fifth of the trials.",
        _table(
            [
                "parameter",
                "sensitivity",
                f"effect on {metric}",
                "importance",
                f"{metric} as it grows",
                "best trial",
                "recommended",
            ],
            sensitivity,
        ),
        *(f"![{path.stem}](plots/{path.name})" for path in plots),
        "## Best trials",
        _table(["trial", metric, *names, "epochs"], trials),
    ]
    if failed:
        sections += ["## Failed trials", _table(["trial", "reason"], failed)]
    return "\n\n".join(sections) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines
    )


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
