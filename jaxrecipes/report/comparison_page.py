"""The page of a comparison of runs."""

import pathlib
from collections.abc import Mapping

import numpy as np

from jaxrecipes.report.comparison import Comparison
from jaxrecipes.report.comparison_plot import COLORS
from jaxrecipes.report.comparison_tables import heading, sections
from jaxrecipes.report.curves import svg_curve
from jaxrecipes.report.page import Answer, Page, command, write_page
from jaxrecipes.report.progress import duration
from jaxrecipes.report.sections import Cell, Section, change, shown


def write_comparison_page(
    comparison: Comparison, folders: Mapping[str, pathlib.Path], path: pathlib.Path
) -> pathlib.Path:
    """Writes the page: which run is best by the metric that selects, by how much, and its curves.

    Args:
      comparison: what is shown.
      folders: of the runs, by name.
      path: of the page; `comparison.png` beside it is shown, if it is there.
    """
    runs, metric, unit = comparison.runs, comparison.selected, comparison.unit
    reached: dict[str, Cell] = {name: run.summary["best"][metric] for name, run in runs.items()}
    first = next(iter(runs))
    lower = runs[first].config.get("select_mode", "min") == "min"
    known = {n: v for n, v in reached.items() if isinstance(v, int | float) and np.isfinite(v)}
    best = (min if lower else max)(known, key=lambda name: known[name], default=first)
    facts: list[tuple[str, Cell]] = [(f"best {unit}", runs[best].summary["best"][unit])]
    facts += [(name, value) for name, value in reached.items() if name != best]
    if best != first:
        facts.append((f"change against {first}", change(reached[first], reached[best])))
    gap = runs[best].gap(metric)
    at = [entry[unit] == runs[best].summary["best"][unit] for entry in runs[best].history]
    if np.isfinite(gap[at]).any():
        facts.append(("gap to training", change(0.0, float(gap[at][-1]))))
    lines = [
        (name, COLORS[i % len(COLORS)], 1.8, [entry[unit] for entry in run.history], values)
        for i, (name, run) in enumerate(runs.items())
        for values in [run.validated(metric)]
    ]
    picture = path.with_name("comparison.png")
    pictures = [picture] if picture.exists() else []
    whole = sum(run.summary["seconds"] for run in runs.values())
    page = Page(
        title=heading(comparison),
        subtitle=f"{shown(len(runs))} runs · {duration(whole)} of training · "
        f"{'lower' if lower else 'higher'} {metric} is better",
        answer=Answer(
            name=f"{metric} of {best}, the best",
            value=reached[best],
            facts=facts,
            curve=svg_curve(lines, xlabel=unit),
        ),
        problems=[
            f"{name}: {shown(run.summary['num_skipped'])} steps were skipped."
            for name, run in runs.items()
            if run.summary.get("num_skipped")
        ],
        commands=[
            (
                "Use the best",
                command("jaxrecipes", "export", "--checkpoint", folders[best])
                + " --format onnx --output model.onnx",
            )
        ],
        sections=[*sections(comparison), Section(title="Curves", pictures=pictures)],
    )
    return write_page(page, path)
