"""A comparison of runs as tables, which its page and its Markdown show."""

import pathlib
from collections.abc import Sequence

import numpy as np

from jaxrecipes.report.comparison import Comparison, RunRecord
from jaxrecipes.report.progress import duration
from jaxrecipes.report.sections import Cell, Section, Table, as_markdown, change, sampled, shown

ROWS = 12  # validations listed


def markdown(comparison: Comparison) -> str:
    """What `sections` has, as Markdown."""
    return as_markdown(heading(comparison), sections(comparison), folder=pathlib.Path())


def heading(comparison: Comparison) -> str:
    """The recipe and the runs."""
    recipe = next(iter(comparison.runs.values())).config.get("recipe", "runs")
    return f"{recipe}: {', '.join(comparison.runs)}"


def sections(comparison: Comparison) -> list[Section]:
    """What each run reached, the change against the first, how steady it was, how far validation
    was from training, and what differs.
    """
    runs, unit = comparison.runs, comparison.unit
    metrics = sorted(comparison.metrics, key=lambda name: name != comparison.selected)
    note = f"Validation metrics at the best {unit}"
    if any(field.startswith("loss.") for field in comparison.differences):
        note += ". The loss itself differs (see the settings): compare the other metrics"
    found = [
        Section(title="What was reached", note=f"{note}.", table=_reached(comparison, metrics)),
        Section(title="At the last validation", table=_finals(comparison, metrics)),
    ]
    if len(runs) > 1:
        first, *others = runs.values()
        changes = [
            [m, first.summary["best"][m]]
            + [change(first.summary["best"][m], run.summary["best"][m]) for run in others]
            for m in metrics
        ]
        title = f"Change against {next(iter(runs))}"
        found.append(Section(title=title, table=Table(head=["", *runs], rows=changes)))
    if comparison.differences:
        fields = [
            [field, *map(_setting, v.values())] for field, v in comparison.differences.items()
        ]
        found.append(
            Section(title="Settings that differ", table=Table(head=["", *runs], rows=fields))
        )
    if any(len(run.history) > 1 for run in runs.values()):
        note = "Over all validations of a run: mean / standard deviation."
        found.append(Section(title="Spread", note=note, table=_spreads(comparison, metrics)))
        found += _by_validation(comparison)
    return found


def _reached(comparison: Comparison, metrics: Sequence[str]) -> Table:
    unit = comparison.unit
    columns = {
        name: [
            *(*(run.summary["best"][m] for m in metrics), run.summary["best"][unit]),
            *(run.history[-1][unit], bool(run.summary["stopped_early"])),
            *(duration(run.summary["seconds"]), f"{run.examples_per_second:,.0f}"),
        ]
        for name, run in comparison.runs.items()
    }
    facts = [f"best {unit}", f"{unit}s", "stopped early", "time", "examples/s"]
    return _of({"": [*metrics, *facts], **columns})


def _finals(comparison: Comparison, metrics: Sequence[str]) -> Table:
    runs = comparison.runs.items()
    columns = {name: [run.summary["final"].get(m) for m in metrics] for name, run in runs}
    return _of({"": [*metrics], **columns})


def _spreads(comparison: Comparison, metrics: Sequence[str]) -> Table:
    columns: dict[str, list[Cell]] = {
        name: ["{} / {}".format(*map(shown, run.spread(m))) for m in metrics]
        for name, run in comparison.runs.items()
    }
    return _of({"": [*metrics], **columns})


def _by_validation(comparison: Comparison) -> list[Section]:
    """The selected metric and its gap at some validations of the first run, and hyperparameters
    that the runs moved differently.
    """
    metric, unit, runs = comparison.selected, comparison.unit, comparison.runs
    when = [entry[unit] for entry in next(iter(runs.values())).history]
    rows = [when[i] for i in sampled(len(when), ROWS)]

    def column(run: RunRecord, values: np.ndarray) -> list[Cell]:
        at = [entry[unit] for entry in run.history]
        known = {i: v for i, v in zip(at, values.tolist(), strict=True) if np.isfinite(v)}
        return [known.get(row) for row in rows]

    columns: dict[str, list[Cell]] = {unit: rows}
    for name, run in runs.items():
        columns[f"{name}: validation"] = column(run, run.validated(metric))
        if np.isfinite(run.gap(metric)).any():
            columns[f"{name}: training"] = column(run, run.trained(metric))
            columns[f"{name}: gap"] = column(run, run.gap(metric))
    found = [Section(title=f"{metric} by {unit}", table=_of(columns))]
    columns = {unit: rows}
    for hparam in comparison.hparams:
        moves = {
            f"{name}: {hparam}": column(run, run.over_time("hparams", hparam))
            for name, run in runs.items()
        }
        if any(move != next(iter(moves.values())) for move in moves.values()):
            columns |= moves
    if len(columns) > 1:
        title = "Hyperparameters that moved differently"
        found.append(Section(title=title, table=_of(columns), folded=True))
    return found


def _of(columns: dict[str, list[Cell]]) -> Table:
    return Table(head=list(columns), rows=list(zip(*columns.values(), strict=True)))


def _setting(value: Cell) -> str:
    if value is None or isinstance(value, bool):
        return str(value)
    return f"{value:g}" if isinstance(value, int | float) else str(value)
