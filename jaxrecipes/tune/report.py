"""What a search leaves: the best config as files that train.py takes, tables, plots and a page."""

import csv
import dataclasses
import io
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from jaxrecipes.config import to_dict
from jaxrecipes.files import write_bytes, write_json
from jaxrecipes.report.curves import svg_curve
from jaxrecipes.report.figures import BLUE, GREEN
from jaxrecipes.report.page import Answer, Page, command, write_page
from jaxrecipes.report.progress import duration
from jaxrecipes.report.sections import Section, Table, as_markdown, shown
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
    space: Space,
    *,
    recipe: RecipeModule,
    metric: str,
    mode: Literal["min", "max"],
    config_of: Callable[[int], Any],
) -> TrialRow:
    """Writes trials.csv, trials.json, search.json, best.py, best_config.json, plots/*.png,
    report.md and report.html into the search's folder, and a copy of a recipe that is one file.

    Args:
      study: the search.
      space: what they varied.
      recipe: what they trained.
      metric: what they were compared by.
      mode: whether lower or higher is better.
      config_of: number of a trial -> the config that it trained.

    Returns:
      The best trial.

    Raises:
      ValueError: no trial ran to its end. The tables of trials are there.
    """
    rows, workdir = trial_rows(study, mode=mode), study.workdir
    write_json(workdir / "trials.json", [dataclasses.asdict(row) for row in rows])
    write_bytes(workdir / "trials.csv", _csv(rows, list(space.parameters)).encode())
    best = best_row(rows, mode=mode)
    config = config_of(best.number)
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
    sections = _sections(rows, table, space, metric=metric, mode=mode, plots=workdir / "plots")
    write_bytes(workdir / "report.md", _markdown(about, best, sections, workdir).encode())
    page = _page(rows, best, sections, workdir, metric=metric, mode=mode)
    write_page(page, workdir / "report.html")
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


def _markdown(
    about: str, best: TrialRow, sections: Sequence[Section], workdir: pathlib.Path
) -> str:
    first = Section(
        note=f"{about}\n\nTo train it, in this folder:\n\n    jaxrecipes train --config best.py\n\n"
        f"Its weights are in `{best.folder}`."
    )
    return as_markdown("Search", [first, *sections], folder=workdir)


def _page(
    rows: Sequence[TrialRow],
    best: TrialRow,
    sections: Sequence[Section],
    workdir: pathlib.Path,
    *,
    metric: str,
    mode: Literal["min", "max"],
) -> Page:
    states = [row.state for row in rows]
    counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    spent = sum(row.seconds or 0.0 for row in rows)
    failed = [row for row in rows if row.reason]
    reasons = dict.fromkeys(row.reason.split("\n")[0] for row in failed)
    return Page(
        title=f"Search: {workdir.resolve().name}",
        subtitle=f"{shown(len(rows))} trials: {counts} · {duration(spent)} of trials",
        answer=Answer(
            name=f"{metric} of trial {best.number}, the best ({_better(mode)} is better)",
            value=best.value,
            facts=list(best.values.items()),
            curve=_curve(rows, mode=mode),
        ),
        problems=[f"{len(failed)} trials failed: {'; '.join(reasons)}"] if failed else [],
        commands=[
            ("Train the best", command("jaxrecipes", "train", "--config", workdir / "best.py")),
            (
                "Use its weights",
                command("jaxrecipes", "export", "--checkpoint", workdir / best.folder)
                + " --format onnx --output model.onnx",
            ),
        ],
        sections=sections,
    )


def _curve(rows: Sequence[TrialRow], *, mode: Literal["min", "max"]) -> str:
    """The metric of each trial that ran to its end, and the best so far."""
    done = [row for row in rows if row.state == "complete" and row.value is not None]
    numbers, values = [row.number for row in done], [float(row.value or 0.0) for row in done]
    so_far = np.minimum.accumulate(values) if mode == "min" else np.maximum.accumulate(values)
    lines: list[Any] = [
        ("trials", BLUE, 0.0, numbers, values),
        ("best so far", GREEN, 1.8, numbers, so_far),
    ]
    return svg_curve(lines, xlabel="trial")


def _better(mode: Literal["min", "max"]) -> str:
    return "lower" if mode == "min" else "higher"


def _sections(
    rows: Sequence[TrialRow],
    table: Sequence[Sensitivity],
    space: Space,
    *,
    metric: str,
    mode: Literal["min", "max"],
    plots: pathlib.Path,
) -> list[Section]:
    sign = 1.0 if mode == "min" else -1.0
    ranked = sorted(
        (row for row in rows if row.state == "complete"), key=lambda r: sign * (r.value or 0.0)
    )
    sensitivity = Table(
        head=[
            *("parameter", "sensitivity", "best trial", "recommended"),
            *(f"effect on {metric}", "importance", f"{metric} as it grows"),
        ],
        rows=[
            [
                *(s.parameter, s.level, s.best, s.recommended),
                *(f"±{s.effect:.2g}", s.importance, s.trend),
            ]
            for s in table
        ],
    )
    names = list(space.parameters)
    trials = [
        [str(r.number), r.value, *(r.values[n] for n in names), r.epochs] for r in ranked[:_SHOWN]
    ]
    failed = [[str(row.number), row.reason.split("\n")[0]] for row in rows if row.reason]
    sections = [
        Section(
            title="Sensitivity",
            note="The effect is half the range of the metric's mean over groups of trials with "
            "similar values; levels are relative to the greatest. Pruned trials count with the "
            "best that they reached. Recommended are the values of the best fifth of the trials.",
            table=sensitivity,
        ),
        Section(
            title="Best trials",
            note=f"{metric}: {_better(mode)} is better.",
            table=Table(head=["trial", metric, *names, "epochs"], rows=trials, chosen=0),
        ),
        Section(title="Plots", pictures=sorted(plots.glob("*.png"))),
    ]
    if failed:
        table_of_failed = Table(head=["trial", "reason"], rows=failed)
        sections.append(Section(title="Failed trials", table=table_of_failed))
    return sections
