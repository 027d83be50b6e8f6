"""A comparison of runs as Markdown."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrecipes.report.comparison import Comparison, RunRecord
from jaxrecipes.report.progress import duration

Json = Any

ROWS = 12  # validations listed


def as_markdown(comparison: Comparison) -> str:
    """Tables: what each run reached, the change against the first, how steady it was, how far
    validation was from training, and what differs.
    """
    runs, metrics, unit = comparison.runs, comparison.metrics, comparison.unit
    recipe = next(iter(runs.values())).config.get("recipe", "runs")
    head = ["preset", *metrics, f"best {unit}", f"{unit}s", "stopped early", "time", "examples/s"]
    reached = [
        [
            name,
            *(
                f"{_number(run.summary['best'][m])} / {_number(run.summary['final'].get(m))}"
                for m in metrics
            ),
            str(run.summary["best"][unit]),
            str(run.history[-1][unit]),
            "yes" if run.summary["stopped_early"] else "no",
            duration(run.summary["seconds"]),
            f"{run.examples_per_second:.0f}",
        ]
        for name, run in runs.items()
    ]
    parts = [
        f"# {recipe}: {', '.join(runs)}",
        f"Validation metrics, at the best {unit} / at the last.",
        _table(head, reached),
    ]
    if any(field.startswith("loss.") for field in comparison.differences):
        parts.append("The loss itself differs (see the settings): compare the other metrics.")
    first, *others = runs
    if others:
        changes = [
            [m, _number(runs[first].summary["best"][m])]
            + [_change(runs[first].summary["best"][m], runs[n].summary["best"][m]) for n in others]
            for m in metrics
        ]
        parts += [f"Change at the best {unit} against {first}.", _table(["", *runs], changes)]
    if any(len(run.history) > 1 for run in runs.values()):
        parts += ["Over all validations of a run: mean / standard deviation."]
        parts += [_table(["preset", *metrics], _spreads(comparison))]
        parts += _by_validation(comparison)
    if comparison.differences:
        fields = [
            [field, *(_setting(value) for value in by_run.values())]
            for field, by_run in comparison.differences.items()
        ]
        parts += ["Settings that differ.", _table(["", *runs], fields)]
    return "\n\n".join(parts) + "\n"


def _spreads(comparison: Comparison) -> list[list[str]]:
    return [
        [name, *("{} / {}".format(*map(_number, run.spread(m))) for m in comparison.metrics)]
        for name, run in comparison.runs.items()
    ]


def _by_validation(comparison: Comparison) -> list[str]:
    """The selected metric and its gap at some validations of the first run, and hyperparameters
    that the runs moved differently.
    """
    metric, unit, runs = comparison.selected, comparison.unit, comparison.runs
    when = [entry[unit] for entry in next(iter(runs.values())).history]
    chosen = sorted({round(i * (len(when) - 1) / (ROWS - 1)) for i in range(ROWS)})
    rows = [when[i] for i in chosen]

    def column(run: RunRecord, values: np.ndarray) -> list[str]:
        found = dict(zip((entry[unit] for entry in run.history), values.tolist(), strict=True))
        return [_number(found.get(row)) for row in rows]

    first = [str(row) for row in rows]
    head: list[str] = [unit]
    columns = [first]
    for name, run in runs.items():
        head.append(f"{name}: validation")
        columns.append(column(run, run.validated(metric)))
        if np.isfinite(run.gap(metric)).any():
            head += [f"{name}: training", f"{name}: gap"]
            columns += [column(run, run.trained(metric)), column(run, run.gap(metric))]
    parts = [f"{metric} by {unit}.", _table(head, list(zip(*columns, strict=True)))]
    head, columns = [str(unit)], [first]
    for hparam in comparison.hparams:
        moves = [column(run, run.over_time("hparams", hparam)) for run in runs.values()]
        if any(move != moves[0] for move in moves):
            head += [f"{name}: {hparam}" for name in runs]
            columns += moves
    if len(columns) > 1:
        parts += ["Hyperparameters that moved differently."]
        parts += [_table(head, list(zip(*columns, strict=True)))]
    return parts


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: Json) -> str:
    known = isinstance(value, int | float) and np.isfinite(value)
    return f"{value:.4f}" if known else "-"


def _change(before: Json, after: Json) -> str:
    if not isinstance(before, int | float) or not isinstance(after, int | float):
        return "-"
    share = f" ({(after - before) / abs(before):+.1%})" if before else ""
    return f"{after - before:+.4f}{share}"


def _setting(value: Json) -> str:
    if value is None or isinstance(value, bool):
        return str(value)
    return f"{value:g}" if isinstance(value, int | float) else str(value).replace("|", "\\|")
