"""Plots of a binary classifier: confusion matrix, ROC and precision-recall curves."""

import os
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import ArrayLike

from jaxrecipes.report.figures import BLUE, GREY, INK, new_figure, note, save_figure, style_axes

ONE_CLASS = "only one class is present:\nthe curve is not defined"


def confusion_matrix(
    counts: ArrayLike,
    path: str | os.PathLike[str],
    *,
    class_names: Sequence[str] = ("closed", "open"),
    title: str = "Confusion matrix",
) -> None:
    """Counts per true class (row) and predicted class (column), and each count's share of its row.

    Args:
      counts: `[K, K]` integers; for two classes `[[tn, fp], [fn, tp]]`.
      path: PNG to write.
      class_names: `K` names, in the order of the rows.
      title: heading.

    Raises:
      ValueError: `counts` is not square, or `class_names` does not fit it.
    """
    matrix = np.asarray(counts)
    k = len(class_names)
    if matrix.shape != (k, k):
        raise ValueError(
            f"expected counts of shape {(k, k)} for the {k} classes {tuple(class_names)}, "
            f"got {matrix.shape}"
        )
    rows = matrix.sum(axis=1, keepdims=True)
    share = np.divide(matrix, rows, out=np.zeros(matrix.shape), where=rows > 0)
    size = max(4.0, 1.0 + 0.8 * k)
    figure = new_figure(size, size)
    axes = figure.subplots()
    style_axes(axes, title=title, xlabel="predicted", ylabel="true")
    axes.grid(False)
    axes.imshow(
        share, cmap=LinearSegmentedColormap.from_list("share", ["white", BLUE]), vmin=0, vmax=1
    )
    axes.set_xticks(range(k), class_names)
    axes.set_yticks(range(k), class_names, rotation=90, va="center")
    for row, column in np.ndindex(k, k):
        color = "white" if share[row, column] > 0.6 else INK
        text = f"{matrix[row, column]:,}\n{share[row, column]:.1%}"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=11)
    save_figure(figure, path, caption=f"Confusion matrix: {title}")


def roc_curve(
    fpr: ArrayLike,
    tpr: ArrayLike,
    auc: float,
    path: str | os.PathLike[str],
    *,
    title: str = "ROC",
) -> None:
    """True-positive against false-positive rate.

    Args:
      fpr: `[T]` false-positive rates in [0, 1], in the order of the thresholds. Empty where one
        class is missing; a note then takes the curve's place.
      tpr: `[T]` true-positive rates.
      auc: area under the curve; NaN where one class is missing.
      path: PNG to write.
      title: heading.
    """
    x, y = _curve(fpr, tpr, "fpr", "tpr")
    figure = new_figure(5, 4)
    axes = figure.subplots()
    style_axes(axes, title=title, xlabel="false-positive rate", ylabel="true-positive rate")
    if x.size == 0 or np.isnan(auc):
        note(axes, ONE_CLASS)
    else:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="chance")
        axes.plot(x, y, color=BLUE, linewidth=2, label=f"AUC {auc:.3f}")
        axes.legend(loc="lower right", fontsize=9, frameon=False)
    _unit_square(axes)
    save_figure(figure, path, caption=f"ROC: {title}")


def precision_recall_curve(
    precision: ArrayLike,
    recall: ArrayLike,
    average_precision: float,
    path: str | os.PathLike[str],
    *,
    positive_share: float | None = None,
    title: str = "Precision and recall",
) -> None:
    """Precision against recall, as the steps whose area is the average precision.

    Args:
      precision: `[T]` in [0, 1]. Empty where one class is missing; a note then takes the curve's
        place.
      recall: `[T]` in [0, 1], falling or rising.
      average_precision: sum of precision times gain in recall; NaN where one class is missing.
      path: PNG to write.
      positive_share: share of positives, the precision of guessing; drawn as a line if given.
      title: heading.
    """
    x, y = _curve(recall, precision, "recall", "precision")
    figure = new_figure(5, 4)
    axes = figure.subplots()
    style_axes(axes, title=title, xlabel="recall", ylabel="precision")
    if x.size == 0 or np.isnan(average_precision):
        note(axes, ONE_CLASS)
    else:
        if positive_share is not None:
            axes.axhline(positive_share, color=GREY, linewidth=1, linestyle="--", label="chance")
        where: Literal["pre", "post"] = "post" if x[0] > x[-1] else "pre"
        label = f"average precision {average_precision:.3f}"
        axes.step(x, y, where=where, color=BLUE, linewidth=2, label=label)
        axes.legend(loc="lower left", fontsize=9, frameon=False)
    _unit_square(axes)
    save_figure(figure, path, caption=f"Precision and recall: {title}")


def _curve(x: ArrayLike, y: ArrayLike, x_name: str, y_name: str) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(
            f"expected {x_name} and {y_name} of one length, got shapes {x.shape} and {y.shape}"
        )
    return x, y


def _unit_square(axes: Axes) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
