"""Plots of embeddings before and after a network: how alike they are to what they should be."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from jaxrecipes.report.figures import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    RED,
    new_figure,
    note,
    save_figure,
    style_axes,
)

Path = str | os.PathLike[str]
Roc = tuple[np.ndarray, np.ndarray, float]  # false- and true-positive rates [T], area

_BEFORE, _AFTER = ORANGE, BLUE


def similarity_histogram(
    before: ArrayLike, after: ArrayLike, path: Path, *, title: str = "Similarity"
) -> None:
    """Histograms of the cosine to the target, before and after the network, with their means.

    Args:
      before: `[N]` cosines of the inputs; numbers that are not finite are left out.
      after: `[N]` cosines of the outputs.
      path: PNG to write.
      title: heading.
    """
    figure = new_figure(6, 3.6)
    axes = figure.subplots()
    style_axes(axes, title=title, xlabel="cosine similarity to the target", ylabel="share of pairs")
    _histograms(axes, {"before": (before, _BEFORE), "after": (after, _AFTER)})
    save_figure(figure, path, caption=f"Likeness to the frontal photo, before and after: {title}")


def similarity_by_angle(
    angles: Mapping[str, ArrayLike],
    before: ArrayLike,
    after: ArrayLike,
    path: Path,
    *,
    title: str = "Similarity by angle",
) -> None:
    """The cosine to the target against the size of an angle: mean, and the middle half as a band.

    Args:
      angles: name -> `[N]` degrees; one panel each, those that never change left out.
      before: `[N]` cosines of the inputs.
      after: `[N]` cosines of the outputs.
      path: PNG to write.
      title: heading.
    """
    sizes = _varying({name: np.abs(values) for name, values in angles.items()})
    figure = new_figure(max(5.0, 3.8 * len(sizes)), 3.6)
    figure.suptitle(title, fontsize=10, color=INK, x=0.02, ha="left")
    panels = figure.subplots(1, max(1, len(sizes)), squeeze=False, sharey=True)[0]
    if not sizes:
        style_axes(panels[0])
        note(panels[0], "the angles are all the same")
    for axes, (name, size) in zip(panels, sizes.items(), strict=False):
        style_axes(axes, xlabel=f"{name}, degrees")
        for values, color, label in ((before, _BEFORE, "before"), (after, _AFTER, "after")):
            x, low, mean, high = _binned(size, np.asarray(values, np.float64))
            axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
            axes.plot(x, mean, color=color, linewidth=2, marker="o", markersize=3, label=label)
    panels[0].set_ylabel("cosine similarity to the target", fontsize=9, color=INK)
    if sizes:
        panels[0].legend(fontsize=9, frameon=False)
    save_figure(figure, path, caption=f"Likeness by the angle of the side view: {title}")


def verification_roc(
    before: Roc, after: Roc, path: Path, *, title: str = "Same person or not"
) -> None:
    """True-accept against false-accept rate, the latter on a logarithmic axis.

    Args:
      before: of the inputs, as `metrics.roc_curve` gives the rates; NaN where a kind is missing.
      after: of the outputs.
      path: PNG to write.
      title: heading.
    """
    figure = new_figure(5, 4)
    axes = figure.subplots()
    style_axes(axes, title=title, xlabel="false-accept rate", ylabel="true-accept rate")
    if np.isnan(before[2]) or np.isnan(after[2]):
        note(axes, "only one kind of pair is present:\nthe curve is not defined")
    else:
        for (fpr, tpr, auc), color, label in (
            (before, _BEFORE, "before"),
            (after, _AFTER, "after"),
        ):
            axes.step(
                fpr, tpr, where="post", color=color, linewidth=2, label=f"{label}, AUC {auc:.3f}"
            )
        smallest = min(float(fpr[fpr > 0].min()) for fpr, _, _ in (before, after))
        axes.set_xscale("log")
        axes.set_xlim(min(smallest, 0.1), 1.0)
        axes.legend(loc="lower right", fontsize=9, frameon=False)
    axes.set_ylim(-0.02, 1.02)
    save_figure(figure, path, caption=f"Verification, inputs and outputs: {title}")


def pairs_overview(
    angles: Mapping[str, ArrayLike],
    cosines: ArrayLike,
    pairs_per_person: Sequence[int],
    path: Path,
    *,
    title: str = "Pairs",
) -> None:
    """What pairs there are: their angles, how alike the two are, and how many a person has.

    Args:
      angles: name -> `[N]` degrees, at most three; those that never change left out.
      cosines: `[N]` between the two of a pair.
      pairs_per_person: `[P]`.
      path: PNG to write.
      title: heading.
    """
    figure = new_figure(11, 3.4)
    figure.suptitle(title, fontsize=10, color=INK, x=0.02, ha="left")
    poses, likeness, people = figure.subplots(1, 3)
    style_axes(poses, xlabel="degrees", ylabel="share of pairs")
    colors = dict(zip(angles, (ORANGE, BLUE, GREEN), strict=False))
    _histograms(
        poses, {name: (x, colors[name]) for name, x in _varying(angles).items()}, means=False
    )
    style_axes(likeness, xlabel="cosine similarity of side view and target")
    _histograms(likeness, {"": (cosines, _BEFORE)})
    style_axes(people, xlabel="person, by number of pairs", ylabel="pairs")
    counts = np.sort(np.asarray(pairs_per_person))[::-1]
    people.fill_between(np.arange(len(counts)), counts, color=RED, alpha=0.5, step="mid")
    people.set_ylim(bottom=0)
    people.xaxis.get_major_locator().set_params(integer=True)
    people.yaxis.get_major_locator().set_params(integer=True)
    save_figure(figure, path, caption=f"The pairs of faces: {title}")


def _varying(angles: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    values = {name: np.asarray(x, np.float64) for name, x in angles.items()}
    return {name: x for name, x in values.items() if x.size and np.ptp(x) > 1e-3}


def _histograms(
    axes: Axes, series: Mapping[str, tuple[ArrayLike, str]], *, means: bool = True
) -> None:
    """Outlined histograms over common bins, as shares."""
    values = {name: np.asarray(x, np.float64).ravel() for name, (x, _) in series.items()}
    values = {name: x[np.isfinite(x)] for name, x in values.items()}
    together = np.concatenate([np.zeros(0), *values.values()])
    if not together.size:
        return note(axes, "there is nothing to show")
    # Cosines that are all equal differ by rounding, in a range too small to divide.
    low, high = together.min(), together.max()
    spread = max(high - low, 1e-3)
    edges = np.linspace(low - 0.01 * spread, high + 0.01 * spread, 51)
    for name, (_, color) in series.items():
        x = values[name]
        if not x.size:
            continue
        shares = np.histogram(x, edges)[0] / x.size
        label = ", ".join(filter(None, [name, f"mean {x.mean():.3f}" if means else ""]))
        axes.stairs(shares, edges, color=color, fill=True, alpha=0.3)
        axes.stairs(shares, edges, color=color, linewidth=1.4, label=label)
        if means:
            axes.axvline(x.mean(), color=color, linewidth=1.2, linestyle="--")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=9, frameon=False)
    return None


def _binned(x: np.ndarray, y: np.ndarray, bins: int = 12) -> tuple[np.ndarray, ...]:
    """Centres of the bins that hold something; first quartile, mean and third quartile there."""
    edges = np.linspace(x.min(), x.max(), bins + 1)
    which = np.digitize(x, edges[1:-1])
    rows = []
    for i in range(bins):
        inside = y[(which == i) & np.isfinite(y)]
        if inside.size:
            low, high = np.quantile(inside, [0.25, 0.75])
            rows.append(((edges[i] + edges[i + 1]) / 2, low, inside.mean(), high))
    return tuple(np.asarray(rows).reshape(-1, 4).T)
