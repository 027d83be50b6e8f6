"""Several runs beside each other: what they reached, in how long, and where configs differ."""

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxrecipes.report.curves import COLUMNS
from jaxrecipes.report.figures import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    RED,
    new_figure,
    save_figure,
    style_axes,
)
from jaxrecipes.report.progress import duration
from jaxrecipes.train.run_files import read_json

_COLORS = (ORANGE, BLUE, GREEN, RED, "#cc79a7", "#56b4e9", INK)
_LOSSES = ("loss", "loss_ema")

Json = Any


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What a finished run left: `config.json`, `history.json` and `summary.json`."""

    config: Mapping[str, Json]
    history: Sequence[Mapping[str, Json]]
    summary: Mapping[str, Json]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Runs by name, in order; the first is what the others are compared with.

    Attributes:
      runs: name -> record.
      metrics: the validation metrics that are shown, the loss first.
      differences: dotted config field -> name -> value, of fields that are not the same in all.
    """

    runs: Mapping[str, RunRecord]
    metrics: list[str]
    differences: dict[str, dict[str, Json]]


def compare_runs(
    folders: Mapping[str, str | os.PathLike[str]], *, metrics: Sequence[str] = ()
) -> Comparison:
    """Reads finished runs.

    Args:
      folders: name -> folder of a run.
      metrics: what to show. Empty: the loss and every validation metric that any run moved, but the
        loss's terms, and raw weights where averaged ones are kept.

    Raises:
      FileNotFoundError: a folder without a finished run.
      ValueError: no runs, a file that is not JSON, or a metric that a run does not have.
    """
    if not folders:
        raise ValueError("want at least one run to compare")
    runs = {name: _read(pathlib.Path(folder)) for name, folder in folders.items()}
    for name, run in runs.items():
        for metric in metrics:
            if metric not in run.summary["best"]:
                known = ", ".join(sorted(run.summary["best"]))
                raise ValueError(f"run {name!r} has no metric {metric!r}; it has {known}")
    configs = {name: dict(_flat(run.config)) for name, run in runs.items()}
    fields = dict.fromkeys(field for config in configs.values() for field in config)
    values = {field: {name: configs[name].get(field) for name in runs} for field in fields}
    differences = {
        field: by_run
        for field, by_run in values.items()
        if any(value != next(iter(by_run.values())) for value in by_run.values())
    }
    return Comparison(runs, list(metrics) or _moved(list(runs.values())), differences)


def as_json(comparison: Comparison) -> dict[str, Json]:
    """All that is shown, as plain data: `runs`, `metrics`, `differences`."""
    return {
        "runs": {
            name: {
                **{part: run.summary[part] for part in ("best", "final", "test")},
                "epochs": run.history[-1]["epoch"],
                **{key: run.summary[key] for key in ("stopped_early", "seconds", "num_params")},
                "examples_per_second": _examples_per_second(run),
            }
            for name, run in comparison.runs.items()
        },
        "metrics": comparison.metrics,
        "differences": comparison.differences,
    }


def as_markdown(comparison: Comparison) -> str:
    """Tables: what each run reached, the change against the first, and what differs."""
    runs, metrics = comparison.runs, comparison.metrics
    recipe = next(iter(runs.values())).config.get("recipe", "runs")
    head = ["preset", *metrics, "best epoch", "epochs", "stopped early", "time", "examples/s"]
    reached = [
        [
            name,
            *(f"{_number(run.summary['best'][m])} / {_number(_final(run, m))}" for m in metrics),
            str(run.summary["best"]["epoch"]),
            str(run.history[-1]["epoch"]),
            "yes" if run.summary["stopped_early"] else "no",
            duration(run.summary["seconds"]),
            f"{_examples_per_second(run):.0f}",
        ]
        for name, run in runs.items()
    ]
    parts = [
        f"# {recipe}: {', '.join(runs)}",
        "Validation metrics, at the best epoch / at the last.",
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
        parts += [f"Change at the best epoch against {first}.", _table(["", *runs], changes)]
    if comparison.differences:
        fields = [
            [field, *(_setting(value) for value in by_run.values())]
            for field, by_run in comparison.differences.items()
        ]
        parts += ["Settings that differ.", _table(["", *runs], fields)]
    return "\n\n".join(parts) + "\n"


def plot(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """One panel per metric with a line per run over its epochs; a dot marks the best epoch."""
    columns = min(COLUMNS, len(comparison.metrics))
    rows = -(-len(comparison.metrics) // columns)
    figure = new_figure(max(6.0, 4.6 * columns), 3.2 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, metric in zip(grid.flat, comparison.metrics, strict=False):
        of_loss = metric in _LOSSES
        title = f"{metric} (of training dotted)" if of_loss else metric
        style_axes(axes, title=title, xlabel="epoch")
        for i, (name, run) in enumerate(comparison.runs.items()):
            color = _COLORS[i % len(_COLORS)]
            epochs = [entry["epoch"] for entry in run.history]
            if of_loss:
                train = _by_epoch(run, "train", "loss")
                axes.plot(epochs, train, color=color, linewidth=1, linestyle=":")
            values = _by_epoch(run, _part(run), metric)
            axes.plot(epochs, values, color=color, linewidth=1.6, label=name)
            best = run.summary["best"]
            if isinstance(best[metric], int | float):
                axes.plot([best["epoch"]], [best[metric]], "o", color=color, markersize=5)
        axes.xaxis.get_major_locator().set_params(integer=True)
    for axes in grid.flat[len(comparison.metrics) :]:
        axes.set_axis_off()
    grid[0, 0].legend(fontsize=8, frameon=False)
    save_figure(figure, path)


def _read(folder: pathlib.Path) -> RunRecord:
    if not (folder / "summary.json").exists():
        raise FileNotFoundError(f"{folder} holds no finished run: it has no summary.json")
    return RunRecord(*(read_json(folder / f"{n}.json") for n in ("config", "history", "summary")))


def _flat(config: Mapping[str, Json], path: str = "") -> Iterator[tuple[str, Json]]:
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _part(run: RunRecord) -> str:
    """Where a run's outcome is from: without a validation split it is the training's."""
    return "val" if run.history[-1]["val"] else "train"


def _by_epoch(run: RunRecord, part: str, metric: str) -> np.ndarray:
    """What is missing is NaN."""
    return np.asarray([entry[part].get(metric) for entry in run.history], np.float64)


def _examples_per_second(run: RunRecord) -> float:
    """The median of the epochs' training, so that the first one's compilation does not count."""
    return float(np.median([entry["examples_per_second"] for entry in run.history]))


def _final(run: RunRecord, metric: str) -> Json:
    return run.summary["final"].get(metric)


def _moved(runs: Sequence[RunRecord]) -> list[str]:
    common = [
        metric
        for metric in runs[0].summary["best"]
        if metric not in ("epoch", "step") and all(metric in run.summary["best"] for run in runs)
    ]
    names = [
        metric
        for metric in common
        if "/" not in metric
        and f"{metric}_ema" not in common
        and any(
            len({entry[_part(run)].get(metric) for entry in run.history}) > 1
            or run.summary["best"][metric] != runs[0].summary["best"][metric]
            for run in runs
        )
    ]
    return sorted(names or common[:1], key=lambda name: name not in _LOSSES)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: Json) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "-"


def _change(before: Json, after: Json) -> str:
    if not isinstance(before, int | float) or not isinstance(after, int | float):
        return "-"
    share = f" ({(after - before) / abs(before):+.1%})" if before else ""
    return f"{after - before:+.4f}{share}"


def _setting(value: Json) -> str:
    if value is None or isinstance(value, bool):
        return str(value)
    return f"{value:g}" if isinstance(value, int | float) else str(value).replace("|", "\\|")
