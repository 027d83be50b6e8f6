"""One self-contained HTML page that shows a run at a glance."""

import base64
import csv
import datetime
import html
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxrecipes.errors import cause
from jaxrecipes.files import write_bytes
from jaxrecipes.report.page_style import PAGE, STYLE
from jaxrecipes.report.progress import duration

MAX_ROWS = 200  # epochs listed; of longer runs the first, the last and evenly spaced ones between
MAX_TABLE_ROWS = 50  # of each table; the rest is in its file
OUTCOMES = ("best", "final", "test")  # objects of metrics in summary.json
FRACTIONS = ("accuracy", "precision", "recall", "f1", "auc")  # shown with four decimals

Json = Any


def write_page(run_dir: str | os.PathLike[str]) -> pathlib.Path:
    """Writes `report.html` into a run's folder from whatever the run has left so far.

    Read are `config.json` (nested objects), `history.json` (a list of objects with `epoch`, `step`,
    `train`, `val` and perhaps `hparams`), `summary.json` (`best`, `final` and `test` objects of
    metrics and any further facts), `plots/*.png` and, as tables, `plots/*.csv`. What is missing is
    left out; what cannot be read is named on the page. The page needs no other file and no network.

    Args:
      run_dir: the run's folder.

    Returns:
      The path of the page.

    Raises:
      FileNotFoundError: there is no such folder.
    """
    run_dir = pathlib.Path(run_dir)
    if not run_dir.is_dir():
        raise FileNotFoundError(f"no run folder at {run_dir}")
    problems: list[str] = []
    config = _read(run_dir / "config.json", dict, problems)
    history = _read(run_dir / "history.json", list, problems)
    summary = _read(run_dir / "summary.json", dict, problems)
    sections = [
        _problems(problems),
        *(_tiles(name.capitalize(), summary.get(name)) for name in OUTCOMES),
        _facts({name: value for name, value in summary.items() if name not in OUTCOMES}),
        _plots(sorted((run_dir / "plots").glob("*.png"))),
        *(_table(path) for path in sorted((run_dir / "plots").glob("*.csv"))),
        _epochs(history),
        _config(config),
    ]
    body = "\n".join(section for section in sections if section)
    page = PAGE.format(
        title=_text(run_dir.resolve().name),
        subtitle=_text(_subtitle(config, history)),
        style=STYLE,
        body=body or '<p class="empty">This run has left nothing to show yet.</p>',
    )
    path = run_dir / "report.html"
    write_bytes(path, page.encode())
    return path


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


def _subtitle(config: Mapping[str, Json], history: list[Json]) -> str:
    parts = [str(config[key]) for key in ("recipe", "preset") if config.get(key)]
    if history and isinstance(history[-1], dict):
        last = history[-1]
        parts.append(f"epoch {last.get('epoch', '?')}, step {last.get('step', '?')}")
    parts.append(datetime.datetime.now().strftime("written on %Y-%m-%d at %H:%M"))
    return " · ".join(parts)


def _problems(problems: list[str]) -> str:
    items = "".join(f"<li>{_text(problem)}</li>" for problem in problems)
    return f'<section class="problems"><ul>{items}</ul></section>' if problems else ""


def _tiles(heading: str, metrics: Json) -> str:
    if not isinstance(metrics, dict) or not metrics:
        return ""
    tiles = "".join(
        f'<div class="tile"><div class="value">{_value(name, value)}</div>'
        f'<div class="name">{_text(name)}</div></div>'
        for name, value in _flatten(metrics).items()
    )
    return f'<section><h2>{heading}</h2><div class="tiles">{tiles}</div></section>'


def _facts(facts: Mapping[str, Json]) -> str:
    if not facts:
        return ""
    return f"<section><h2>Facts</h2>{_pairs(_flatten(facts))}</section>"


def _plots(paths: list[pathlib.Path]) -> str:
    """The curves first, then the plots that share a row, then the wide ones."""
    figures = []
    for path in paths:
        png = path.read_bytes()
        name = _text(path.stem.replace("_", " "))
        data = base64.b64encode(png).decode()
        wide = _is_wide(png)
        figure = (
            f"<figure{' class=wide' if wide else ''}>"
            f'<img alt="{name}" src="data:image/png;base64,{data}">'
            f"<figcaption>{name}</figcaption></figure>"
        )
        figures.append((not path.stem.endswith("curves"), wide, path.stem, figure))
    if not figures:
        return ""
    shown = "".join(figure for *_, figure in sorted(figures))
    return f'<section><h2>Plots</h2><div class="plots">{shown}</div></section>'


def _is_wide(png: bytes) -> bool:
    # A signature of 8 bytes, then the header chunk, whose size in pixels starts at byte 16.
    width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    return width > 1.7 * height or width > 900


def _table(path: pathlib.Path) -> str:
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        head, *rows = [*csv.reader(file)] or [[]]
    top = "".join(f"<th>{_text(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>"
        for row in rows[:MAX_TABLE_ROWS]
    )
    count = f"{len(rows)} rows"
    count += "" if len(rows) <= MAX_TABLE_ROWS else f", the first {MAX_TABLE_ROWS} shown"
    return (
        f"<section><h2>{_text(path.stem.replace('_', ' ').capitalize())}</h2>"
        f"<details open><summary>{count}; all in plots/{_text(path.name)}</summary>"
        f'<div class="scroll"><table class="epochs"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></details></section>"
    )


def _epochs(history: list[Json]) -> str:
    entries = [entry for entry in history if isinstance(entry, dict)]
    if not entries:
        return ""
    chosen = sorted({round(i * (len(entries) - 1) / (MAX_ROWS - 1)) for i in range(MAX_ROWS)})
    rows = [_flatten(entries[i]) for i in chosen]
    names = list(dict.fromkeys(name for row in rows for name in row))
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.split(".")[0] if "." in name else "", []).append(name)
    columns = [name for group in groups.values() for name in group]
    top = "".join(f'<th colspan="{len(g)}">{_text(group)}</th>' for group, g in groups.items())
    head = "".join(f"<th>{_text(name.split('.', 1)[-1])}</th>" for name in columns)
    body = "".join(
        "<tr>"
        + "".join(f"<td>{_value(name, row.get(name, ''))}</td>" for name in columns)
        + "</tr>"
        for row in rows
    )
    count = f"{len(entries)} validations"
    count += "" if len(rows) == len(entries) else f", {len(rows)} of them shown"
    return (
        f"<section><h2>Epochs</h2><details open><summary>{count}</summary>"
        f'<div class="scroll"><table class="epochs"><thead><tr>{top}</tr><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></details></section>"
    )


def _config(config: Mapping[str, Json]) -> str:
    if not config:
        return ""
    fields = _flatten(config)
    return (
        f"<section><h2>Configuration</h2><details><summary>{len(fields)} fields</summary>"
        f"{_pairs(fields)}</details></section>"
    )


def _pairs(fields: Mapping[str, Json]) -> str:
    rows = "".join(
        f"<tr><th>{_text(name)}</th><td>{_value(name, value)}</td></tr>"
        for name, value in fields.items()
    )
    return f'<table class="pairs"><tbody>{rows}</tbody></table>'


def _flatten(tree: Mapping[str, Json], prefix: str = "") -> dict[str, Json]:
    """Nested objects as one, with dotted names."""
    flat: dict[str, Json] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _value(name: str, value: Json) -> str:
    """A value as escaped text, with as many digits as help."""
    last = name.rsplit(".", 1)[-1]
    if value is None:
        return "&ndash;"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and last.endswith(("_s", "_seconds", "seconds")):
        return duration(float(value)) if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 and not last.endswith("seed") else str(value)
    if isinstance(value, float):
        metric = last.removesuffix("_ema")
        return f"{value:.4f}" if metric in FRACTIONS and math.isfinite(value) else f"{value:.4g}"
    if isinstance(value, list | dict):
        return _text(json.dumps(value))
    return _text(str(value))


def _text(text: str) -> str:
    return html.escape(text, quote=True)
