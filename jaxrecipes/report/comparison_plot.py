"""A comparison of runs as a picture."""

import os

import numpy as np

from jaxrecipes.report.comparison import Comparison, RunRecord
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

COLORS = (ORANGE, BLUE, GREEN, RED, "#cc79a7", "#56b4e9", INK)


def plot(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """A line per run over its epochs or steps: a panel per metric (the selected one first, with its
    gap between training and validation), a panel per hyperparameter that moved. A dot marks the
    best validation.
    """
    runs, selected, unit = comparison.runs, comparison.selected, comparison.unit
    others = [metric for metric in comparison.metrics if metric != selected]
    has_gap = any(np.isfinite(run.gap(selected)).any() for run in runs.values())
    panels = [("metric", selected)] + [("gap", selected)] * has_gap
    panels += [("metric", metric) for metric in others]
    panels += [("hparam", name) for name in comparison.hparams]
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(max(6.0, 4.6 * columns), 3.2 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (kind, name) in zip(grid.flat, panels, strict=False):
        title = f"{name}, validation - training" if kind == "gap" else name
        for i, (label, run) in enumerate(runs.items()):
            color, x = COLORS[i % len(COLORS)], [entry[unit] for entry in run.history]
            if kind == "metric":
                trained = run.trained(name)
                if np.isfinite(trained).any():
                    title = f"{name} (training dotted)"
                    axes.plot(x, trained, color=color, linewidth=1, linestyle=":")
                best = run.summary["best"]
                if isinstance(best[name], int | float):
                    axes.plot([best[unit]], [best[name]], "o", color=color, markersize=5)
            axes.plot(x, _values(run, kind, name), color=color, linewidth=1.6, label=label)
        style_axes(axes, title=title, xlabel=unit)
        axes.xaxis.get_major_locator().set_params(integer=True)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    grid[0, 0].legend(fontsize=8, frameon=False)
    save_figure(figure, path, caption="Every metric by run; a dot marks the best validation")


def _values(run: RunRecord, kind: str, name: str) -> np.ndarray:
    if kind == "metric":
        return run.validated(name)
    return run.gap(name) if kind == "gap" else run.over_time("hparams", name)
