"""The page of a run, made from whatever the run has left so far."""

import csv
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrecipes.report.curves import selected_curve, unit_of
from jaxrecipes.report.page import Answer, Page, command, write_page
from jaxrecipes.report.progress import duration
from jaxrecipes.report.run_files import (
    RunFiles,
    dict_or_empty,
    flatten,
    outcome,
    read_run,
    trained_of,
)
from jaxrecipes.report.sections import Cell, Section, Table, pairs, sampled, shown

MAX_ROWS = 200  # epochs listed; of longer runs the first, the last and evenly spaced ones between
FEW_ROWS = 12  # of the table that shows what selects
_WIDE = 12  # columns
MAX_TABLE_ROWS = 50  # of each table that the recipe left; the rest is in its file
_NOT_FACTS = ("best", "final", "test", "selected_by", "stopped_early", "num_skipped")


def write_run_page(run_dir: str | os.PathLike[str]) -> pathlib.Path:
    """Writes `report.html` into a run's folder from whatever the run has left so far.

    Read are `config.json`, `history.json`, `summary.json`, `unreadable_*.csv`, `plots/*.png` and,
    as tables, `plots/*.csv`. What is missing is left out; what cannot be read is named on the page.

    Raises:
      FileNotFoundError: there is no such folder.
    """
    folder = pathlib.Path(run_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"no run folder at {folder}")
    left = read_run(folder)
    page = Page(
        title=f"{left.config.get('recipe', 'run')}: {folder.resolve().name}",
        subtitle=_subtitle(left),
        answer=_answer(left),
        problems=[*left.problems, *_went_wrong(left)],
        commands=_commands(left) if left.config else (),
        sections=_sections(left),
    )
    return write_page(page, folder / "report.html")


def _subtitle(left: RunFiles) -> str:
    facts = left.summary
    if not left.history:
        return "This run has left nothing to show yet."
    last = left.history[-1]
    parts = [f"{shown(last['epoch'])} epochs, {shown(last['step'])} steps"]
    if not facts:
        parts.append("not finished")
    if "num_params" in facts:
        parts.append(f"{shown(facts['num_params'])} parameters")
    if isinstance(facts.get("seconds"), int | float):
        parts.append(f"{duration(facts['seconds'])} on {facts.get('devices', 'one device')}")
    return " · ".join(parts)


def _answer(left: RunFiles) -> Answer | None:
    """The metric that selects, at the best epoch of a finished run, else at the last."""
    if not left.history and not left.best:
        return None
    index = -1 if left.best_index is None else left.best_index
    entry: dict[str, Any] = left.history[index] if left.history else {"epoch": None}
    reached = left.best or outcome(entry)
    value = reached.get(left.selected)
    facts: list[tuple[str, Cell]] = [("epoch", _of(reached.get("epoch", entry["epoch"]), left))]
    trained = trained_of(entry, left.selected)
    if isinstance(trained, int | float) and isinstance(value, int | float):
        facts += [("training", float(trained)), ("gap to training", _signed(value - trained))]
    final = dict_or_empty(left.summary.get("final")).get(left.selected)
    if final is not None and final != value:
        facts.append(("at the end", final))
    test = dict_or_empty(left.summary.get("test")).get(left.selected)
    if test is not None:
        facts.append(("test", test))
    curve = ""
    if left.history:
        best = None
        if left.best and left.best_index is not None and isinstance(value, int | float):
            best = (float(entry[unit_of(left.history)]), float(value))
        curve = selected_curve(left.history, left.selected, best=best)
    where = "validation" if not left.history or entry.get("val") else "training"
    name = f"{left.selected} on {where}, {'best' if left.best else 'at the last epoch'}"
    return Answer(name=name, value=value, facts=facts, curve=curve)


def _of(epoch: Cell, left: RunFiles) -> str:
    whole = left.config.get("epochs")
    known = isinstance(whole, int) and left.config.get("steps") is None
    return f"{shown(epoch)} of {shown(whole)}" if known else shown(epoch)


def _went_wrong(left: RunFiles) -> list[str]:
    found = []
    last = left.history[-1] if left.history else {}
    skipped = left.summary.get("num_skipped", last.get("num_skipped"))
    if skipped:
        found.append(f"{shown(skipped)} steps were skipped: their gradients were not finite.")
    for path in sorted(left.folder.glob("unreadable_*.csv")):
        rows = len(_csv_rows(path)) - 1
        split = path.stem.removeprefix("unreadable_")
        found.append(f"{shown(rows)} images of {split} could not be read; see {path.name}.")
    if left.summary.get("stopped_early"):
        found.append(_why_it_stopped(left))
    changes = [str(change) for entry in left.history for change in entry.get("changes") or ()]
    if changes:
        found.append(f"Changed while it trained: {'; '.join(changes)}.")
    return found


def _why_it_stopped(left: RunFiles) -> str:
    stopping = dict_or_empty(left.config.get("early_stopping"))
    epoch = left.history[-1]["epoch"] if left.history else "?"
    monitor = f"{stopping.get('monitor', 'the watched metric')}"
    patience = stopping.get("patience_epochs")
    return (
        f"Stopped early after epoch {epoch}: {monitor} did not improve for {patience} "
        "validations (early_stopping.patience_epochs)."
    )


def _commands(left: RunFiles) -> list[tuple[str, str]]:
    config = left.folder / "config.json"
    train = ("jaxrecipes", "train", "--config", config, "--workdir", left.folder)
    if not left.summary:
        return [("Go on with it", command(*train))]
    found = [
        (
            "Use it",
            command("jaxrecipes", "export", "--checkpoint", left.folder)
            + " --format onnx --output model.onnx",
        )
    ]
    unit = "epochs" if left.config.get("steps") is None else "steps"
    if isinstance(length := left.config.get(unit), int):
        longer = f" --{unit} {2 * length} --allow_config_change"
        if left.summary.get("stopped_early"):
            longer += " --early_stopping.patience_epochs None"
        found.append(("Train it longer", command(*train) + longer))
    return found


def _sections(left: RunFiles) -> list[Section]:
    plots = left.folder / "plots"
    pictures = sorted(plots.glob("*.png"), key=lambda path: _importance(path.stem))
    curves = [path for path in pictures if path.stem.endswith("curves")]
    seen = [path for path in pictures if path.stem.endswith("samples")]
    results = [path for path in pictures if path not in curves + seen]
    sections = [
        Section(title="Metrics", table=_metrics(left)),
        Section(title="What it got right and wrong", pictures=results),
        *(_left_table(path) for path in sorted(plots.glob("*.csv"))),
        Section(title="Epochs", note=_epochs_note(left), table=_epochs(left)),
        Section(title="Curves", pictures=curves),
        Section(title="What training sees", pictures=seen),
        Section(title="All numbers of each epoch", folded=True, **_all_epochs(left)),
        Section(title="About the run", table=_pairs_or_none(_facts(left))),
        Section(title="Configuration", folded=True, table=_pairs_or_none(flatten(left.config))),
    ]
    return [section for section in sections if section.table or section.pictures]


def _importance(stem: str) -> tuple[bool, str]:
    """The test first."""
    return not stem.endswith("test"), stem


def _metrics(left: RunFiles) -> Table | None:
    """What was reached, a row for each metric: the one that selects first, terms of the loss last;
    raw weights after averaged ones.
    """
    final, test = (dict_or_empty(left.summary.get(name)) for name in ("final", "test"))
    parts = {f"best (epoch {shown(left.best.get('epoch'))})": left.best}
    entry = {} if left.best_index is None else left.history[left.best_index]
    names = [name for name in {**left.best, **final, **test} if name not in ("epoch", "step")]
    trained = {name: trained_of(entry, name) for name in names}
    if any(value is not None for value in trained.values()):
        parts["training then"] = trained
    if final != left.best:
        parts["at the end"] = final
    parts["test"] = test
    columns = {head: values for head, values in parts.items() if values}

    def row(name: str) -> list[Cell]:
        return [values.get(name) for values in columns.values()]

    names = [n for n in names if not _repeats_the_loss(n, names, row)]
    names = sorted(
        names,
        key=lambda n: (n != left.selected, "/" in n, f"{n}_ema" in names, not n.startswith("loss")),
    )
    if not names:
        return None
    rows = [[name, *row(name)] for name in names]
    return Table(head=["", *columns], rows=rows, chosen=0 if names[0] == left.selected else None)


def _repeats_the_loss(name: str, names: Sequence[str], row: Any) -> bool:
    """Whether this is the only term of a loss, whose weight is 1."""
    whole = "loss_ema" if name.endswith("_ema") else "loss"
    return name.startswith("loss/") and whole in names and row(name) == row(whole)


def _epochs_note(left: RunFiles) -> str:
    count = len(left.history)
    few = f"{FEW_ROWS} or so of " if count > FEW_ROWS else ""
    return f"{few}{shown(count)} validations, with what selects."


def _epochs(left: RunFiles) -> Table | None:
    """Some epochs with what selects, the gap, the loss and the learning rate: few enough columns
    for a phone.
    """
    if not left.history:
        return None
    unit, selected = unit_of(left.history), left.selected
    loss = "loss_ema" if "loss_ema" in outcome(left.history[-1]) else "loss"
    best = left.best_index
    chosen = sampled(len(left.history), FEW_ROWS, *(() if best is None else (best,)))
    columns: dict[str, list[Cell]] = {}
    entries = [left.history[i] for i in chosen]
    for name in dict.fromkeys([selected, loss]):
        columns[name] = [outcome(entry).get(name) for entry in entries]
        columns[f"{name.removesuffix('_ema')}, training"] = [trained_of(e, name) for e in entries]
    columns["learning rate"] = [
        dict_or_empty(entry.get("hparams")).get("learning_rate") for entry in entries
    ]
    columns = {n: cells for n, cells in columns.items() if any(c is not None for c in cells)}
    rows = list(zip([entry[unit] for entry in entries], *columns.values(), strict=True))
    return Table(
        head=[unit, *columns], rows=rows, chosen=None if best is None else chosen.index(best)
    )


def _all_epochs(left: RunFiles) -> dict[str, Any]:
    chosen = sampled(len(left.history), MAX_ROWS)
    rows = [flatten(left.history[i]) for i in chosen]
    names = list(dict.fromkeys(name for row in rows for name in row))
    note = f"{shown(len(left.history))} validations"
    note += "" if len(rows) == len(left.history) else f", {len(rows)} of them shown"
    cells = [[row.get(name) for name in names] for row in rows]
    return {"note": note, "table": Table(head=names, rows=cells) if rows else None}


def _left_table(path: pathlib.Path) -> Section:
    """A table that the recipe left, on its side where it would be wider than a screen."""
    head, *rows = _csv_rows(path) or [[]]
    count = f"{len(rows)} rows"
    count += "" if len(rows) <= MAX_TABLE_ROWS else f", the first {MAX_TABLE_ROWS} shown"
    table = Table(head=head, rows=rows[:MAX_TABLE_ROWS])
    if len(rows) < len(head) > _WIDE:
        first, *others = zip(head, *rows, strict=True)
        table = Table(head=first, rows=others)
    return Section(
        title=path.stem.replace("_", " ").capitalize(),
        note=f"{count}; all in plots/{path.name}",
        table=table,
    )


def _facts(left: RunFiles) -> dict[str, Cell]:
    facts = {name: value for name, value in left.summary.items() if name not in _NOT_FACTS}
    return {name.replace("_", " "): value for name, value in flatten(facts).items()}


def _pairs_or_none(fields: Mapping[str, Cell]) -> Table | None:
    return pairs(dict(fields)) if fields else None


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else ''}{shown(float(value))}"


def _csv_rows(path: pathlib.Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        return [*csv.reader(file)]
