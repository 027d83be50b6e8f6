"""Self-contained HTML pages that begin with the answer: of a run, a search, a comparison."""

import base64
import dataclasses
import datetime
import os
import pathlib
import re
import shlex
from collections.abc import Sequence

import jinja2
from markupsafe import Markup, escape

from jaxrecipes.files import write_bytes
from jaxrecipes.report.pictures import caption, is_wide
from jaxrecipes.report.sections import Cell, Section, shown


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What a page is opened for.

    Attributes:
      name: of the figure that decided, such as a metric.
      value: the figure.
      facts: what belongs to it, by name: the epoch, the gap to training.
      curve: the figure over time, as SVG; "" for none.
    """

    name: str
    value: Cell
    facts: Sequence[tuple[str, Cell]] = ()
    curve: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """A page, from top to bottom; the first screen holds all but the sections.

    Attributes:
      title: what it is about.
      subtitle: what was done, in one line.
      answer: None where there is none yet.
      problems: what went wrong, a sentence each.
      commands: what to do next -> the command.
      sections: the rest, by importance.
    """

    title: str
    subtitle: str
    answer: Answer | None = None
    problems: Sequence[str] = ()
    commands: Sequence[tuple[str, str]] = ()
    sections: Sequence[Section] = ()


def write_page(page: Page, path: pathlib.Path) -> pathlib.Path:
    """Writes the page as one file, which needs no other file and no network; returns its path."""
    made = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    text = _environment().get_template("page.html").render(page=page, made=made)
    write_bytes(path, text.encode())
    return path


def command(*words: str | os.PathLike[str]) -> str:
    """A command for a shell, with folders as they are seen from the current one."""
    return shlex.join(os.fspath(w) if isinstance(w, str) else seen_from_here(w) for w in words)


def seen_from_here(path: str | os.PathLike[str]) -> str:
    """A path relative to the current folder where it lies in it, else absolute."""
    whole, here = pathlib.Path(path).absolute(), pathlib.Path.cwd()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else whole)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxrecipes.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(shown=shown, caption=caption, is_wide=is_wide, data_url=_data_url)
    environment.filters.update(markup=Markup, breakable=_breakable)
    return environment


def _breakable(text: str) -> Markup:
    """The text, which may be broken after the signs that join the words of a name."""
    return Markup(re.sub("([_/.,](?=[a-zA-Z]))", r"\1<wbr>", str(escape(text))))


def _data_url(png: pathlib.Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(png.read_bytes()).decode()}"
