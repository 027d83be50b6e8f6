"""What pages and texts are made of: sections with tables and pictures; one format of numbers."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

from jaxrecipes.report.progress import duration

NOTHING = "\N{EN DASH}"
"""Stands where there is no value."""

Cell = Any
"""A text, or a number, which is shown in the format of `shown`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells under a head.

    Attributes:
      head: names of the columns.
      rows: `len(head)` cells each.
      chosen: the row that stands out, such as the best epoch; None: none.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    chosen: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page.

    Attributes:
      title: heading; "" for none.
      note: a sentence or two under it.
      table: rows; None: no table.
      pictures: PNG files, which say themselves what they show, see `pictures.caption`.
      folded: whether a page shows only the title until it is clicked.
    """

    title: str = ""
    note: str = ""
    table: Table | None = None
    pictures: Sequence[pathlib.Path] = ()
    folded: bool = False


def shown(value: Cell) -> str:
    """A cell as text: four decimals from 0.01 to 100, three digits below, commas from 1,000 on."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        size = abs(value)
        if not math.isfinite(value) or size < 0.01:
            return f"{value:.3g}"
        return f"{value:.4f}" if size < 100 else f"{value:,.1f}"
    return value if isinstance(value, str) else json.dumps(value)


def change(before: Cell, after: Cell) -> str:
    """How much more `after` is than `before`, with its sign and as a share."""
    if not (_is_number(before) and _is_number(after)):
        return NOTHING
    share = f" ({(after - before) / abs(before):+.1%})" if before else ""
    return f"{'+' if after >= before else ''}{shown(float(after - before))}{share}"


def pairs(fields: Sequence[tuple[str, Cell]] | dict[str, Cell]) -> Table:
    """A table of names and values; those in seconds are shown as a length of time."""
    rows = [
        (name, duration(value) if "seconds" in name and _is_number(value) else value)
        for name, value in dict(fields).items()
    ]
    return Table(head=(), rows=rows)


def sampled(count: int, most: int, *keep: int) -> list[int]:
    """The first, the last, `keep`, and evenly spaced ones between: indices of about `most` of
    `count` rows.
    """
    evenly = {round(i * (count - 1) / max(1, most - 1)) for i in range(most)} if count else set()
    return sorted(evenly | set(keep))


def as_markdown(title: str, sections: Sequence[Section], *, folder: pathlib.Path) -> str:
    """The sections as Markdown, whose pictures are named relative to `folder`."""
    parts = [f"# {title}"]
    for section in sections:
        parts += [f"## {section.title}"] if section.title else []
        parts += [section.note] if section.note else []
        parts += [_markdown_table(section.table)] if section.table else []
        parts += [f"![{p.stem}]({p.relative_to(folder).as_posix()})" for p in section.pictures]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    lines = [table.head, ["---"] * len(table.head), *table.rows]
    return "\n".join(
        "| " + " | ".join(shown(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def _is_number(value: Cell) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
