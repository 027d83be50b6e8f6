"""How predictions agree with opinion scores: scatter plots, tables, the images worth a look."""

import csv
import io
import os
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from PIL import Image

from jaxrecipes.correlation import LogisticFit, agreement, fit_logistic, plcc, srocc
from jaxrecipes.files import write_bytes
from jaxrecipes.report.contact_sheet import contact_sheet
from jaxrecipes.report.figures import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    new_figure,
    note,
    save_figure,
    style_axes,
)

Path = str | os.PathLike[str]
Scores = Mapping[str, tuple[ArrayLike, ArrayLike]]
"""Name -> predictions and opinions, `[N]` each, in the units of the opinions."""

FIGURES = ("srocc", "plcc", "krocc", "rmse", "mae")
THUMBNAIL = 112  # pixels


def score_scatter(
    scores: Scores, path: Path, *, title: str = "Scores", fit: LogisticFit | None = None
) -> None:
    """Opinion against prediction, a panel a score, with the straight line that fits best.

    Args:
      scores: what is drawn; pairs that are not finite are left out.
      path: PNG to write.
      title: heading.
      fit: also draw this logistic curve, and tell the linear correlation after it.
    """
    figure = new_figure(max(4.2, 4.0 * len(scores)), 4)
    panels = figure.subplots(1, max(1, len(scores)), squeeze=False)[0]
    figure.suptitle(title, fontsize=10, x=0.02, ha="left")
    for axes, (name, (pred, opinion)) in zip(panels, scores.items(), strict=False):
        style_axes(axes, title=name, xlabel="predicted", ylabel="opinion score")
        _scatter(axes, np.asarray(pred, np.float64), np.asarray(opinion, np.float64), fit)
    save_figure(figure, path, caption=f"Opinions against predictions: {title}")


def write_agreement(
    scores: Scores,
    path: Path,
    *,
    groups: Sequence[Hashable] | None = None,
    group_name: str = "group",
) -> None:
    """A CSV of the figures of `agreement`, over all examples and over each group of them.

    Args:
      scores: as in `score_scatter`.
      path: CSV to write: `group_name`, `images` and for each score its mean opinion, its mean
        prediction and `FIGURES`; empty where a correlation is not defined.
      groups: `[N]`, what each example belongs to; None: all of them alone.
      group_name: heading of the first column.
    """
    values = {
        name: (np.asarray(pred, np.float64), np.asarray(opinion, np.float64))
        for name, (pred, opinion) in scores.items()
    }
    columns = [
        f"{figure}_{name}" for name in scores for figure in ("opinion", "predicted", *FIGURES)
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([group_name, "images", *columns])
    for group, rows in _groups(groups, values).items():
        cells: list[float] = []
        for pred, opinion in values.values():
            figures = agreement(pred[rows], opinion[rows])
            cells += [float(opinion[rows].mean()), float(pred[rows].mean())]
            cells += [figures[name] for name in FIGURES]
        numbers = [f"{cell:.4f}" if np.isfinite(cell) else "" for cell in cells]
        writer.writerow([group, len(rows), *numbers])
    write_bytes(path, text.getvalue().encode())


def score_sheet(
    images: ArrayLike,
    pred: ArrayLike,
    opinion: ArrayLike,
    captions: Sequence[str],
    path: Path,
    *,
    title: str,
    count: int = 8,
) -> None:
    """The images with the highest and the lowest predictions, and those farthest from the opinion.

    Args:
      images: uint8 `[N, H, W, 3]`, or rows of such an array.
      pred: `[N]`; images whose prediction is not finite are left out.
      opinion: `[N]`.
      captions: `[N]`, what is written under both numbers.
      path: PNG to write.
      title: heading; what the rows show is added.
      count: images in each of the three rows.
    """
    x, y = np.asarray(pred, np.float64), np.asarray(opinion, np.float64)
    known = np.flatnonzero(np.isfinite(x))
    order = known[np.argsort(-x[known], kind="stable")]
    wrong = known[np.argsort(-np.abs(x - y)[known], kind="stable")]
    count = min(count, len(known))
    chosen = np.concatenate([order[:count], order[::-1][:count], wrong[:count]])
    contact_sheet(
        thumbnails(images, chosen),
        [f"{x[i]:.2f}, rated {y[i]:.2f}\n{captions[i]}" for i in chosen],
        path,
        columns=max(1, count),
        title=f"{title}: highest predictions, lowest predictions, largest errors",
        about=f"Images by prediction: {title}",
    )


def thumbnails(images: ArrayLike, rows: ArrayLike, *, size: int = THUMBNAIL) -> np.ndarray:
    """Some of the images, no wider and no higher than `size` pixels.

    Args:
      images: uint8 `[N, H, W, 3]`, or an object that gives such arrays when it is indexed.
      rows: which.
      size: pixels; smaller images stay as they are.

    Returns:
      uint8 `[len(rows), h, w, 3]`.
    """
    chosen = np.asarray(images[np.asarray(rows)])  # type: ignore[index]
    height, width = chosen.shape[1:3]
    share = min(1.0, size / max(height, width))
    shape = (max(1, round(width * share)), max(1, round(height * share)))
    small = [np.asarray(Image.fromarray(image).resize(shape)) for image in chosen]
    return np.stack(small) if small else np.zeros((0, *shape[::-1], 3), np.uint8)


def _scatter(axes: Axes, pred: np.ndarray, opinion: np.ndarray, fit: LogisticFit | None) -> None:
    finite = np.isfinite(pred) & np.isfinite(opinion)
    x, y = pred[finite], opinion[finite]
    if not x.size:
        return note(axes, "there is nothing to show")
    ends = np.array([min(x.min(), y.min()), max(x.max(), y.max())])
    axes.plot(ends, ends, color=GREY, linewidth=1, linestyle="--", label="equal")
    axes.scatter(x, y, s=9, color=BLUE, alpha=0.35, linewidths=0)
    correlation = plcc(x, y)
    if np.isfinite(correlation):
        slope, level = np.polyfit(x, y, 1)
        line = np.array([x.min(), x.max()])
        label = f"line, PLCC {correlation:.3f}, SROCC {srocc(x, y):.3f}"
        axes.plot(line, slope * line + level, color=ORANGE, linewidth=2, label=label)
        fitted = fit_logistic(x, y, kind=fit) if fit else np.full_like(x, np.nan)
        if np.isfinite(fitted).all():
            order = np.argsort(x)
            label = f"{fit}, PLCC {plcc(fitted, y):.3f}"
            axes.plot(x[order], fitted[order], color=RED, linewidth=2, label=label)
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    return None


def _groups(
    groups: Sequence[Hashable] | None, values: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> dict[Hashable, np.ndarray]:
    """Rows by group, all of them first, then the groups by name."""
    count = len(next(iter(values.values()))[0])
    found: dict[Hashable, np.ndarray] = {"all": np.arange(count)}
    if groups is not None:
        names = np.asarray([str(group) for group in groups])
        found |= {str(name): np.flatnonzero(names == name) for name in np.unique(names)}
    return found
