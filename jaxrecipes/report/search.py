"""Plots of a hyperparameter search: its history, importances, slices and parallel coordinates."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator, NullFormatter

from jaxrecipes.report.figures import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    new_figure,
    note,
    save_figure,
    style_axes,
)

_COLUMNS = 3
_COLOURS = "viridis"

Path = str | os.PathLike[str]
Mode = Literal["min", "max"]


@dataclasses.dataclass(frozen=True)
class Trial:
    """A trial as the plots see it: `value` is None where it failed."""

    number: int
    value: float | None
    pruned: bool
    parameters: Mapping[str, Any]


def search_history(trials: Sequence[Trial], path: Path, *, metric: str, mode: Mode) -> None:
    """The metric of each trial, and the best so far.

    Args:
      trials: in order.
      path: PNG to write.
      metric: its name.
      mode: which end is better.
    """
    figure = new_figure(7, 3.6)
    axes = figure.subplots()
    style_axes(axes, title="Search history", xlabel="trial", ylabel=metric)
    complete = [t for t in trials if t.value is not None and not t.pruned]
    pruned = [t for t in trials if t.value is not None and t.pruned]
    failed = [t for t in trials if t.value is None]
    if pruned:
        axes.scatter(*_points(pruned), s=22, color=GREY, marker="v", label="pruned", zorder=2)
    if complete:
        numbers, values = _points(complete)
        axes.scatter(numbers, values, s=26, color=BLUE, label="complete", zorder=3)
        so_far = np.minimum.accumulate(values) if mode == "min" else np.maximum.accumulate(values)
        axes.step(numbers, so_far, where="post", color=GREEN, linewidth=1.6, label="best so far")
    for i, trial in enumerate(failed):
        label = "failed" if i == 0 else None
        axes.axvline(trial.number, color=RED, linewidth=1, linestyle=":", label=label)
    if trials:
        axes.legend(fontsize=8, frameon=False, loc="best")
    else:
        note(axes, "no trial yet")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    save_figure(figure, path)


def importance_bars(importances: Mapping[str, float], path: Path) -> None:
    """The share of each parameter, the most important on top."""
    figure = new_figure(6, 1.2 + 0.35 * max(1, len(importances)))
    axes = figure.subplots()
    style_axes(axes, title="Importance of each parameter", xlabel="share (PED-ANOVA)")
    if importances:
        names = sorted(importances, key=lambda name: importances[name])
        bars = axes.barh(names, [importances[name] for name in names], color=BLUE, height=0.6)
        axes.bar_label(bars, fmt="%.2f", fontsize=8, padding=3, color=INK)
        axes.set_xlim(0, max(importances.values()) * 1.15 or 1.0)
        axes.grid(False, axis="y")
    else:
        note(axes, "too few trials to tell")
        axes.set_yticks([])
    save_figure(figure, path)


def slices(trials: Sequence[Trial], logarithmic: Mapping[str, bool], path: Path, *, metric: str):
    """The metric against each parameter, a panel for each; later trials are lighter.

    Args:
      trials: in order; failed ones are left out.
      logarithmic: parameter -> whether its axis is logarithmic, in the order of the panels.
      path: PNG to write.
      metric: its name.
    """
    shown = [t for t in trials if t.value is not None]
    columns = min(_COLUMNS, max(1, len(logarithmic)))
    rows = max(1, math.ceil(len(logarithmic) / columns))
    figure = new_figure(3.6 * columns + 0.8, 2.9 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    colours = Normalize(0, max((t.number for t in shown), default=1) or 1)
    for axes, (name, log) in zip(grid.flat, logarithmic.items(), strict=False):
        style_axes(axes, xlabel=name, ylabel=metric if axes in grid[:, 0] else "")
        _slice(axes, shown, name, log=log, colours=colours)
    for axes in grid.flat[len(logarithmic) :]:
        axes.set_axis_off()
    bar = figure.colorbar(ScalarMappable(colours, _COLOURS), ax=grid, aspect=40, pad=0.02)
    bar.set_label("trial", fontsize=9, color=INK)
    bar.locator = MaxNLocator(integer=True)
    bar.ax.tick_params(labelsize=8, colors=INK, length=0)
    bar.outline.set_visible(False)
    save_figure(figure, path, dpi=120)


def parallel_coordinates(
    trials: Sequence[Trial], logarithmic: Mapping[str, bool], path: Path, *, metric: str, mode: Mode
) -> None:
    """One line for each trial through an axis for each parameter; the better, the more colour.

    Args: as of `slices`; `mode` says which end of the metric is better.
    """
    shown = [t for t in trials if t.value is not None]
    names = list(logarithmic)
    figure = new_figure(max(6.0, 1.9 * len(names) + 2.2), 4.0)
    axes = figure.subplots()
    style_axes(axes, title=f"Trials by {metric}")
    axes.grid(False)
    axes.set_yticks([])
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_xlim(-0.3, len(names) - 0.7)
    axes.set_ylim(-0.08, 1.08)
    scales = [_Scale([t.parameters[n] for t in shown], log=logarithmic[n]) for n in names]
    for x, scale in enumerate(scales):
        axes.axvline(x, color=GREY, linewidth=1)
        for position, text in scale.ticks:
            label = axes.text(x + 0.03, position, text, fontsize=7, color=INK, va="center")
            label.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1})
            label.set_zorder(4)
    if not shown:
        note(axes, "no trial yet")
    values = [t.value for t in shown if t.value is not None] or [0.0]
    # A few trials that went badly wrong would take all the colours.
    worst, best = np.quantile(values, [0.25, 1.0] if mode == "max" else [0.75, 0.0])
    colours = Normalize(min(worst, best), max(worst, best) or 1.0, clip=True)
    mapped = ScalarMappable(colours, _COLOURS if mode == "max" else f"{_COLOURS}_r")
    order = sorted(shown, key=lambda t: t.value or 0.0, reverse=mode == "min")
    for trial in order:
        y = [scale(trial.parameters[n]) for n, scale in zip(names, scales, strict=True)]
        colour = mapped.to_rgba(trial.value)  # type: ignore[arg-type]
        axes.plot(range(len(names)), y, color=colour, linewidth=1.4, alpha=0.8)
    bar = figure.colorbar(mapped, ax=axes, aspect=30, pad=0.02)
    bar.ax.tick_params(labelsize=8, colors=INK, length=0)
    bar.outline.set_visible(False)
    save_figure(figure, path, dpi=120)


class _Scale:
    """A parameter's values on [0, 1]."""

    def __init__(self, values: Sequence[Any], *, log: bool):
        self._names: list[str] | None = None
        self._log = log
        if not all(_is_number(value) for value in values):
            self._names = list(dict.fromkeys(map(str, values)))
            last = max(1, len(self._names) - 1)
            self.ticks = [(i / last, name) for i, name in enumerate(self._names)]
            return
        numbers = [math.log(v) if log else float(v) for v in values] or [0.0]
        self._low, self._high = min(numbers), max(numbers)
        middle = (self._low + self._high) / 2
        ends = [(0.0, self._low), (0.5, middle), (1.0, self._high)]
        self.ticks = [(at, f"{math.exp(v) if log else v:.3g}") for at, v in ends]

    def __call__(self, value: Any) -> float:
        if self._names is not None:
            return self._names.index(str(value)) / max(1, len(self._names) - 1)
        number = math.log(value) if self._log else float(value)
        return (number - self._low) / (self._high - self._low) if self._high > self._low else 0.5


def _slice(
    axes: Axes, trials: Sequence[Trial], name: str, *, log: bool, colours: Normalize
) -> None:
    values = [t.parameters[name] for t in trials]
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif not all(_is_number(value) for value in values):
        values = list(map(str, values))
        axes.margins(x=0.3)
    elif all(isinstance(value, int) for value in values):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for pruned, marker in ((True, "v"), (False, "o")):
        chosen = [i for i, t in enumerate(trials) if t.pruned is pruned]
        axes.scatter(
            [values[i] for i in chosen],
            [trials[i].value or 0.0 for i in chosen],
            c=[trials[i].number for i in chosen],
            s=24,
            marker=marker,
            cmap=_COLOURS,
            norm=colours,
            edgecolors=ORANGE if pruned else "none",
            linewidths=0.6,
        )


def _points(trials: Sequence[Trial]) -> tuple[list[int], list[float]]:
    return [t.number for t in trials], [t.value for t in trials if t.value is not None]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
