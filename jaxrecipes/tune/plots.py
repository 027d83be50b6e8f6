"""Plots of a search, as Optuna draws them."""

import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from optuna.trial import TrialState
from optuna.visualization import matplotlib as drawn

from jaxrecipes.report.figures import save_figure

_A_ROW = 3  # panels of a picture
_IN_A_LEGEND = 10  # trials


def write_plots(
    study: optuna.Study, weighed: optuna.Study | None, folder: pathlib.Path, *, metric: str
) -> None:
    """Writes PNG files: the search's history, the learning curves of its trials, the metric against
    each parameter, trials as lines through all parameters, and importances.

    Trials that were pruned are among the learning curves alone: the values at which they were
    stopped, early in their training, would stretch the axes of the others.

    Args:
      study: the search.
      weighed: trials as `results.weighed_study` has them; None: too few to tell importances.
      folder: of the plots.
      metric: its name.
    """
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    # An axis of one value has no width.
    names = [
        name
        for name in study.trials[0].distributions
        if len({str(trial.params.get(name)) for trial in complete}) > 1
    ]
    # Optuna draws with pyplot, in a style of its own, which is nobody else's.
    with plt.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        axes: Any = drawn.plot_optimization_history(study, target_name=metric)
        _save(axes, folder / "history.png", (8, 4), "Trials and the best so far")
        axes = drawn.plot_intermediate_values(study)
        axes.set(title="Learning curves", xlabel="epoch", ylabel=metric)
        axes.xaxis.get_major_locator().set_params(integer=True)
        legend = axes.get_legend()
        if legend is not None and len(legend.get_texts()) > _IN_A_LEGEND:
            legend.remove()
        _save(axes, folder / "learning_curves.png", (8, 4), "Learning curves, of pruned trials too")
        for i, row in enumerate(_rows(names)):
            axes = drawn.plot_slice(study, params=list(row), target_name=metric)
            _save(
                axes,
                folder / f"slices_{i + 1}.png",
                (4 * len(row) + 1, 4),
                f"{metric} by {', '.join(row)}",
            )
        if names:
            axes = drawn.plot_parallel_coordinate(study, params=names, target_name=metric)
            plt.setp(axes.get_xticklabels(), ha="left", fontsize=8)
            _save(
                axes,
                folder / "parallel_coordinates.png",
                (max(8, 1.6 * len(names)), 5),
                "Each trial as a line",
            )
        if weighed is not None:
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            axes = drawn.plot_param_importances(weighed, evaluator=evaluator)
            axes.get_legend().remove()
            _save(
                axes,
                folder / "importances.png",
                (8, 1.2 + 0.4 * len(study.trials[0].distributions)),
                "Importance of each parameter (PED-ANOVA)",
            )


def _rows(names: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(names[i : i + _A_ROW]) for i in range(0, len(names), _A_ROW)]


def _save(axes: Any, path: pathlib.Path, size: tuple[float, float], caption: str) -> None:
    figure: Figure = np.ravel(axes)[0].figure
    figure.set_size_inches(size)
    save_figure(figure, path, dpi=120, tight=True, caption=caption)
    plt.close(figure)
