"""Curves over a run: losses, metrics and hyperparameters by epoch, and the learning-rate finder."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

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
    svg_of,
)

COLUMNS = 3
# (where in an entry, suffix of the name) of each line of a panel, its colour and its width.
SERIES = {
    ("train", ""): ("train", ORANGE, 1.4),
    ("train", "_ema"): ("train, EMA", RED, 1.4),
    ("val", ""): ("val", BLUE, 1.6),
    ("val", "_ema"): ("val, EMA", GREEN, 1.8),
}

Entry = Mapping[str, Any]


def training_curves(
    history: Sequence[Entry],
    path: str | os.PathLike[str],
    *,
    best_epoch: int | None = None,
    title: str = "",
) -> None:
    """One panel per metric and per hyperparameter that changes, over the epochs.

    Args:
      history: one object per validation with `epoch`, `step`, `train` and `val` objects of numbers
        and, if any, an `hparams` object. A metric of EMA weights ends in `_ema` and shares the
        panel of the raw one. `None` and non-finite numbers leave a gap.
      path: PNG to write.
      best_epoch: marked by a line if given.
      title: heading.
    """
    panels = _panels(history)
    columns = min(COLUMNS, max(1, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    figure = new_figure(4.2 * columns, 2.5 * rows + (0.4 if title else 0.0))
    if title:
        figure.suptitle(title, fontsize=11)
    grid = figure.subplots(rows, columns, squeeze=False)
    unit = unit_of(history)
    x = [entry[unit] for entry in history]
    for axes, (name, lines) in zip(grid.flat, panels.items(), strict=False):
        style_axes(axes, title=name)
        for label, color, width, values in lines:
            marker = "o" if np.isfinite(values).sum() < 3 else None
            axes.plot(
                x, values, color=color, linewidth=width, label=label, marker=marker, markersize=3
            )
        _scale(axes, np.concatenate([values for *_, values in lines]))
        if best_epoch is not None and unit == "epoch":
            axes.axvline(best_epoch, color=GREY, linewidth=1, linestyle=":")
        if len(lines) > 1 or lines[0][0]:
            axes.legend(fontsize=7, frameon=False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes in grid[-1]:
        axes.set_xlabel(unit, fontsize=9)
    if not panels:
        note(grid[0, 0], "no epoch has ended yet")
    caption = "Metrics and hyperparameters over the run"
    save_figure(figure, path, dpi=120, caption=caption)


Line = tuple[str, str, float, np.ndarray]  # label, colour, width, [len(history)] values


def selected_curve(
    history: Sequence[Entry], metric: str, *, best: tuple[float, float] | None
) -> str:
    """One metric over a run, of training and validation, as `figures.svg_of` has it.

    Args:
      history: as of `training_curves`.
      metric: as validation names it, with `_ema` or without.
      best: epoch (or step) and value to mark.
    """
    unit = unit_of(history)
    x = [entry[unit] for entry in history]
    return svg_curve(
        [
            (label, color, width, x, values)
            for label, color, width, values in _lines(history, metric)
        ],
        xlabel=unit,
        best=best,
    )


def svg_curve(
    lines: Sequence[tuple[str, str, float, Sequence[float], ArrayLike]],
    *,
    xlabel: str,
    best: tuple[float, float] | None = None,
    best_label: str = "best",
    logarithmic: bool = False,
) -> str:
    """Lines (label, colour, width, x, y) as an SVG that fits the first screen of a page; "" for no
    finite number. A line without a width is drawn as points; the x axis may be logarithmic.
    """
    lines = [line for line in lines if np.isfinite(np.asarray(line[4], np.float64)).any()]
    if not lines:
        return ""
    figure = new_figure(5.4, 2.9)
    axes = figure.subplots()
    style_axes(axes, xlabel=xlabel)
    for label, color, width, x, values in lines:
        few = width == 0 or np.isfinite(np.asarray(values, np.float64)).sum() < 3
        marker = "o" if few else None
        axes.plot(x, values, color=color, linewidth=width, label=label, marker=marker, markersize=3)
    if best is not None:
        axes.plot(*best, "o", color=lines[-1][1], markersize=7, label=best_label)
    axes.legend(fontsize=8, frameon=False, labelcolor=INK)
    _scale(axes, np.concatenate([np.asarray(values, np.float64) for *_, values in lines]))
    if logarithmic:
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return svg_of(figure)


def unit_of(history: Sequence[Entry]) -> str:
    """What tells validations apart: epochs, or steps where several fall into one epoch."""
    epochs = [entry["epoch"] for entry in history]
    return "epoch" if len(set(epochs)) == len(epochs) else "step"


def _lines(history: Sequence[Entry], metric: str) -> list["Line"]:
    return _panels(history).get(metric.removesuffix("_ema"), [])


def _panels(history: Sequence[Entry]) -> dict[str, list[Line]]:
    names = _ordered_names(history)
    panels: dict[str, list[Line]] = {}
    for name in names:
        lines = []
        for (part, suffix), (label, color, width) in SERIES.items():
            values = _column(history, part, name + suffix)
            if np.isfinite(values).any():
                lines.append((label, color, width, values))
        if lines:
            panels[name] = lines
    for name in dict.fromkeys(key for entry in history for key in entry.get("hparams") or {}):
        values = _column(history, "hparams", name)
        finite = values[np.isfinite(values)]
        changes = finite.size and np.ptp(finite) > 0
        if (changes or name == "learning_rate") and finite.size and name not in panels:
            panels[name] = [("", BLUE, 1.6, values)]
    return panels


def _ordered_names(history: Sequence[Entry]) -> list[str]:
    """Names without `_ema`: the loss, what was validated, what is known of training alone."""
    names: dict[str, None] = {"loss": None}
    for part in ("val", "train"):
        for entry in history:
            names |= dict.fromkeys(key.removesuffix("_ema") for key in entry.get(part) or {})
    return list(names)


def _column(history: Sequence[Entry], part: str, name: str) -> np.ndarray:
    return np.asarray([_number((entry.get(part) or {}).get(name)) for entry in history], np.float64)


def _number(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else math.nan


def _scale(axes: Axes, values: np.ndarray) -> None:
    """A logarithmic axis for positive values that span more than a factor of 30."""
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() > 0 and finite.max() / finite.min() > 30:
        axes.set_yscale("log")
    else:
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4), useMathText=True)
        axes.yaxis.get_offset_text().set_fontsize(8)


def learning_rate_finder(
    learning_rates: ArrayLike,
    losses: ArrayLike,
    suggestion: float | None,
    path: str | os.PathLike[str],
    *,
    smoothed: ArrayLike | None = None,
    title: str = "Learning-rate range test",
) -> None:
    """Loss against the learning rate of a range test, with the rate that it suggests.

    Args:
      learning_rates: `[T]` rates, rising.
      losses: `[T]` losses at these rates; non-finite ones leave a gap.
      suggestion: rate to mark; `None` or NaN where the test found none.
      path: PNG to write.
      smoothed: `[T]` smoothed losses, drawn over the raw ones if given.
      title: heading.

    Raises:
      ValueError: the lengths differ.
    """
    x, y = np.asarray(learning_rates, np.float64), np.asarray(losses, np.float64)
    trend = None if smoothed is None else np.asarray(smoothed, np.float64)
    if x.shape != y.shape or (trend is not None and trend.shape != x.shape):
        raise ValueError(f"expected one loss per learning rate, got {y.shape} for {x.shape}")
    figure = new_figure(6, 4)
    axes = figure.subplots()
    style_axes(axes, title=title, xlabel="learning rate", ylabel="loss")
    shown = y if trend is None else trend
    if trend is not None:
        axes.plot(x, y, color=GREY, linewidth=0.8, alpha=0.7, label="each batch")
    axes.plot(x, shown, color=BLUE, linewidth=2, label="loss" if trend is None else "smoothed")
    axes.set_xscale("log")
    finite = shown[np.isfinite(shown)]
    if finite.size:
        # The end of the test diverges; without a limit it would flatten all that matters.
        low, start = finite.min(), finite[0]
        axes.set_ylim(low - 0.1 * (start - low) - 1e-3, low + 2.0 * max(start - low, 1e-3))
    if suggestion is None or math.isnan(suggestion):
        axes.set_title(f"{title}: no suggestion", fontsize=10, loc="left")
    else:
        label = f"suggestion {suggestion:.2e}"
        axes.axvline(suggestion, color=RED, linewidth=1.4, linestyle="--", label=label)
    axes.legend(fontsize=9, frameon=False)
    save_figure(figure, path, caption=title)
