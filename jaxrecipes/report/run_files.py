"""What a run has left so far, as far as it can be read."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxrecipes.errors import cause

Json = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunFiles:
    """What a run left; `problems` names what could not be read."""

    folder: pathlib.Path
    config: dict[str, Json]
    history: list[dict[str, Json]]
    summary: dict[str, Json]
    problems: list[str]

    @property
    def best(self) -> dict[str, Json]:
        """The metrics of the best epoch."""
        return dict_or_empty(self.summary.get("best"))

    @property
    def selected(self) -> str:
        """The metric that selects, as the history has it."""
        name = self.summary.get("selected_by") or self.config.get("select_metric") or "loss"
        last = outcome(self.history[-1]) if self.history else {}
        return f"{name}_ema" if f"{name}_ema" in last else str(name)

    @property
    def best_index(self) -> int | None:
        """Where the best epoch is in the history."""
        found = [i for i, e in enumerate(self.history) if e["step"] == self.best.get("step")]
        return found[-1] if found else None


def read_run(folder: pathlib.Path) -> RunFiles:
    """What is in a run's folder; what is missing is empty."""
    problems: list[str] = []
    history = _read(folder / "history.json", list, problems)
    left = RunFiles(
        folder=folder,
        config=_read(folder / "config.json", dict, problems),
        history=[entry for entry in history if _is_entry(entry)],
        summary=_read(folder / "summary.json", dict, problems),
        problems=problems,
    )
    if len(left.history) < len(history):
        problems.append(f"history.json: {len(history) - len(left.history)} entries are damaged")
    return left


def trained_of(entry: Mapping[str, Json], metric: str) -> Json:
    """The same metric of training; None where it is the outcome itself."""
    if not entry.get("val"):
        return None
    return dict_or_empty(entry.get("train")).get(metric.removesuffix("_ema"))


def outcome(entry: Mapping[str, Json]) -> dict[str, Json]:
    return dict_or_empty(entry.get("val")) or dict_or_empty(entry.get("train"))


def _read(path: pathlib.Path, kind: type, problems: list[str]) -> Json:
    """The file's value; empty if it is missing or, with a word on the page, unreadable."""
    if not path.exists():
        return kind()
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"{path.name} could not be read: {cause(error)}")
        return kind()
    if not isinstance(value, kind):
        problems.append(f"{path.name} holds a {type(value).__name__}, expected a {kind.__name__}")
        return kind()
    return value


def _is_entry(entry: Json) -> bool:
    if not isinstance(entry, dict):
        return False
    counts = [entry.get("epoch"), entry.get("step")]
    parts = [entry.get(name) for name in ("train", "val", "hparams")]
    return all(isinstance(count, int) for count in counts) and all(
        part is None or isinstance(part, dict) for part in parts
    )


def dict_or_empty(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def flatten(tree: Mapping[str, Json], prefix: str = "") -> dict[str, Json]:
    """Nested objects as one, with dotted names."""
    flat: dict[str, Json] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
