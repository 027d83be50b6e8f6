"""Errors of predicted joints: bars of each joint, curves of correct joints, a table.

Errors are `[N, J]` millimetres, by the name of what is measured; NaN is a joint that does not count
and infinity one that was not predicted.
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence

import numpy as np

from jaxrecipes.files import write_bytes
from jaxrecipes.report.figures import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    new_figure,
    note,
    save_figure,
    style_axes,
)

Path = str | os.PathLike[str]
Errors = Mapping[str, np.ndarray]

_COLORS = (BLUE, ORANGE, GREEN, RED)


def error_bars(errors: Errors, names: Sequence[str], path: Path, *, title: str) -> None:
    """The mean error of each joint as a bar, of one colour for each thing measured.

    Args:
      errors: see the module.
      names: of the J joints.
      path: PNG to write.
      title: heading.
    """
    figure = new_figure(9.5, 3.6)
    axes = figure.subplots()
    style_axes(axes, title=title, ylabel="mean error, mm")
    places, width, highest = np.arange(len(names)), 0.8 / len(errors), 0.0
    for i, (name, values) in enumerate(errors.items()):
        means = np.array([_mean(column) for column in values.T])
        shown = np.where(np.isfinite(means), means, 0.0)
        highest = max(highest, shown.max())
        offset = (i - (len(errors) - 1) / 2) * width
        label = f"{name}, mean {_mean(values):.1f} mm"
        color = _COLORS[i % len(_COLORS)]
        axes.bar(places + offset, shown, width, color=color, label=label)
    axes.set_xticks(places, list(names), rotation=60, ha="right", rotation_mode="anchor")
    axes.grid(False, axis="x")
    axes.set_ylim(0.0, 1.15 * highest or 1.0)
    axes.legend(loc="upper left", ncols=len(errors), fontsize=8, frameon=False)
    save_figure(figure, path, dpi=120, caption=f"Error of each joint: {title}")


def pck_curves(errors: Errors, path: Path, *, title: str, limit: float = 50.0) -> None:
    """The share of joints that are nearer than a distance, over distances from 0 to `limit` mm.

    The legend tells the area under each curve, as a share of the whole.
    """
    figure = new_figure(4.6, 3.8)
    axes = figure.subplots()
    style_axes(axes, title=title, xlabel="distance, mm", ylabel="share of joints within")
    distances = np.linspace(0.0, limit, 201)
    for (name, values), color in zip(errors.items(), _COLORS, strict=False):
        known = np.sort(values[~np.isnan(values)])
        if not known.size:
            note(axes, "there is nothing to show")
            break
        shares = np.searchsorted(known, distances, side="right") / known.size
        area = np.maximum(1.0 - known / limit, 0.0).mean()
        axes.plot(distances, shares, color=color, linewidth=2, label=f"{name}, area {area:.3f}")
    axes.set_xlim(0.0, limit)
    axes.set_ylim(0.0, 1.02)
    if axes.lines:
        axes.legend(loc="lower right", fontsize=8, frameon=False)
    save_figure(figure, path, caption=f"Share of joints within a distance: {title}")


def write_joint_errors(errors: Errors, groups: Mapping[str, Sequence[int]], path: Path) -> None:
    """A CSV of the errors of groups of joints.

    Args:
      errors: see the module.
      groups: name -> its joints.
      path: CSV to write: `joints`, how many `labels` count, and mean, median and 90th percentile
        of each error in mm; empty where there is no such number.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    figures = ("mean", "median", "p90")
    writer.writerow(["joints", "labels", *(f"{e}_{figure}" for e in errors for figure in figures)])
    for group, joints in groups.items():
        cells, count = [], 0
        for values in errors.values():
            known = values[:, list(joints)]
            known = known[~np.isnan(known)]
            count = max(count, known.size)
            found = [_mean(known), *_percentiles(known, (50, 90))]
            cells += [f"{number:.2f}" if np.isfinite(number) else "" for number in found]
        writer.writerow([group, count, *cells])
    write_bytes(path, text.getvalue().encode())


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else np.nan


def _percentiles(known: np.ndarray, percents: Sequence[float]) -> list[float]:
    if not known.size:
        return [np.nan] * len(percents)
    # Without interpolation, which would make NaN of infinities.
    return [float(x) for x in np.percentile(known, percents, method="inverted_cdf")]
