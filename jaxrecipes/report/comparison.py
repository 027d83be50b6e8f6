"""Several runs beside each other: what they reached, in how long, how they got there, and where
configs differ. `comparison_tables` writes it down, `comparison_plot` draws it.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from jaxrecipes.files import read_json

LOSSES = ("loss", "loss_ema")

Json = Any

# What is shown of `summary.json`, and of an entry of `history.json`.
_SUMMARY = {"best", "final", "test", "stopped_early", "seconds", "num_params"}
_ENTRY = {"epoch", "step", "train", "val"}
_SPEED = "examples_per_second"


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What a finished run left: `config.json`, `history.json` and `summary.json`."""

    config: Mapping[str, Json]
    history: Sequence[Mapping[str, Json]]
    summary: Mapping[str, Json]

    @property
    def part(self) -> str:
        """Where its outcome is from: without a validation split it is the training's."""
        return "val" if self.history[-1]["val"] else "train"

    @property
    def examples_per_second(self) -> float:
        """The median of the epochs, so that the first one's compilation does not count; NaN where
        none was measured (epochs of an imported checkpoint).
        """
        measured = [entry.get(_SPEED) for entry in self.history]
        return float(np.median([rate for rate in measured if rate is not None] or [np.nan]))

    def over_time(self, part: str, name: str) -> np.ndarray:
        """A number of the history's `train`, `val` or `hparams`; NaN where there is none."""
        values = [(entry.get(part) or {}).get(name) for entry in self.history]
        return np.asarray(values, np.float64)

    def validated(self, metric: str) -> np.ndarray:
        """A metric of its outcome, by validation."""
        return self.over_time(self.part, metric)

    def trained(self, metric: str) -> np.ndarray:
        """The same of training; NaN where it is not known, or is the outcome itself."""
        if self.part == "train":
            return np.full(len(self.history), np.nan)
        return self.over_time("train", metric.removesuffix("_ema"))

    def gap(self, metric: str) -> np.ndarray:
        """How much higher validation's is than training's."""
        return self.validated(metric) - self.trained(metric)

    def spread(self, metric: str) -> tuple[float, float]:
        """Mean and standard deviation of a metric over the run's validations; NaN without any."""
        values = self.validated(metric)
        values = values[np.isfinite(values)]
        return (float(values.mean()), float(values.std())) if values.size else (np.nan, np.nan)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Runs by name, in order; the first is what the others are compared with.

    Attributes:
      runs: name -> record.
      metrics: the validation metrics that are shown, the loss first.
      selected: the one of them that is followed closely: what the first run's best is chosen by.
      hparams: hyperparameters that any run moved.
      unit: what the runs count in.
      differences: dotted config field -> name -> value, of fields that are not the same in all.
    """

    runs: Mapping[str, RunRecord]
    metrics: list[str]
    selected: str
    hparams: list[str]
    unit: Literal["epoch", "step"]
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
        raise ValueError("expected at least one run to compare")
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
    shown = list(metrics) or _moved(list(runs.values()))
    if not shown:
        raise ValueError(f"the runs {', '.join(runs)} have no metric in common to be compared by")
    selected = next(iter(runs.values())).summary.get("selected_by")
    return Comparison(
        runs=runs,
        metrics=shown,
        selected=selected if selected in shown else shown[0],
        hparams=_moved_hparams(list(runs.values())),
        unit="step" if any(_counts_steps(run.config) for run in runs.values()) else "epoch",
        differences=differences,
    )


def as_json(comparison: Comparison) -> dict[str, Json]:
    """All that is shown, as plain data: `runs`, `metrics`, `selected`, `differences`."""
    return {
        "runs": {
            name: {
                **{part: run.summary[part] for part in ("best", "final", "test")},
                **{f"{unit}s": run.history[-1][unit] for unit in ("epoch", "step")},
                **{key: run.summary[key] for key in ("stopped_early", "seconds", "num_params")},
                "examples_per_second": run.examples_per_second,
                "over_validations": {
                    metric: dict(zip(("mean", "std"), run.spread(metric), strict=True))
                    for metric in comparison.metrics
                },
                "by_validation": {
                    "step": [entry["step"] for entry in run.history],
                    "val": run.validated(comparison.selected).tolist(),
                    "train": run.trained(comparison.selected).tolist(),
                    "hparams": {
                        h: run.over_time("hparams", h).tolist() for h in comparison.hparams
                    },
                },
            }
            for name, run in comparison.runs.items()
        },
        "metrics": comparison.metrics,
        "selected": comparison.selected,
        "differences": comparison.differences,
    }


def _read(folder: pathlib.Path) -> RunRecord:
    if not (folder / "summary.json").exists():
        raise FileNotFoundError(f"{folder} holds no finished run: it has no summary.json")
    config, history, summary = (
        read_json(folder / f"{n}.json") for n in ("config", "history", "summary")
    )
    entries = history if isinstance(history, list) and history else [None]
    whole = {
        "config.json": isinstance(config, dict),
        "history.json": all(_is_entry(entry) for entry in entries),
        "summary.json": isinstance(summary, dict)
        and summary.keys() >= _SUMMARY
        and isinstance(summary["best"], dict),
    }
    for name, is_whole in whole.items():
        if not is_whole:
            raise ValueError(
                f"{folder / name} lacks what a run writes there: it was changed by hand, or is of "
                "another program; train the run again, or leave it out"
            )
    return RunRecord(config, history, summary)


def _is_entry(entry: Json) -> bool:
    if not isinstance(entry, dict) or not entry.keys() >= _ENTRY:
        return False
    parts = [entry.get(name) or {} for name in ("train", "val", "hparams")]
    if not all(isinstance(part, dict) for part in parts) or not any(parts[:2]):
        return False
    numbers = [number for part in parts for number in part.values()]
    return all(isinstance(n, int | float | None) for n in [*numbers, entry.get(_SPEED)])


def _flat(config: Mapping[str, Json], path: str = "") -> Iterator[tuple[str, Json]]:
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


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
            len({entry[run.part].get(metric) for entry in run.history}) > 1
            or run.summary["best"][metric] != runs[0].summary["best"][metric]
            for run in runs
        )
    ]
    return sorted(names or common[:1], key=lambda name: name not in LOSSES)


def _moved_hparams(runs: Sequence[RunRecord]) -> list[str]:
    names = {
        name: None for run in runs for entry in run.history for name in entry.get("hparams", {})
    }
    return [name for name in names if any(_moves(run.over_time("hparams", name)) for run in runs)]


def _moves(values: np.ndarray) -> bool:
    return len(np.unique(values[np.isfinite(values)])) > 1


def _counts_steps(config: Mapping[str, Json]) -> bool:
    loop = config.get("loop")
    every = loop.get("validate_every_steps") if isinstance(loop, Mapping) else None
    return config.get("steps") is not None or every is not None
