"""The record of which examples a run holds out.

A split drawn from the number of rows changes as soon as a row is added, and examples that were
trained on would be used for validation. So the first draw is recorded in the run's folder and
applies from then on: recorded examples stay held out, and new ones are trained on.
"""

import collections
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrecipes.files import write_bytes

_log = logging.getLogger("jaxrecipes")

RECORD = "held_out.json"
_TRAIN = "train"

Drawn = Mapping[str, np.ndarray]
"""For each split, including `train`, which examples are in it."""


def on_record(
    folder: Path | None,
    drawn: Drawn,
    keys: Sequence[str],
    *,
    settings: Mapping[str, Any],
    write: bool,
) -> Drawn:
    """The split of a run: as drawn, unless its folder has a record.

    Args:
      folder: the run's folder, if any.
      drawn: the split for a new run.
      keys: `[N]`, the name, prompt or person by which each example is held out.
      settings: the settings of the draw, as JSON data. If they have changed, the split is drawn
        anew.
      write: whether to record the draw if there is no record yet.

    Raises:
      ValueError: the record cannot be read.
    """
    if folder is None:
        return drawn
    records = _read(folder / RECORD)
    found = {
        name: sorted({keys[i] for i in rows}) for name, rows in drawn.items() if name != _TRAIN
    }
    known = [record for record in records if record["settings"] == settings]
    there = set(keys)
    held_out = known[0]["held_out"] if known else {}
    if not any(there.intersection(names) for names in held_out.values()):  # of other data, too
        if write:
            others = [record for record in records if record["settings"] != settings]
            own = {"settings": dict(settings), "held_out": found}
            write_bytes(folder / RECORD, json.dumps([*others, own], indent=1).encode())
        return drawn
    if found == held_out:
        return drawn
    split_of = {key: name for name, names in held_out.items() for key in names}
    names = np.array([split_of.get(key, _TRAIN) for key in keys])
    kept = {name: np.flatnonzero(names == name) for name in (_TRAIN, *held_out)}
    counts = ", ".join(f"{name} {len(rows)}" for name, rows in kept.items())
    _log.info("split as on record in %s; what is new is trained on: %s", folder / RECORD, counts)
    return {name: rows for name, rows in kept.items() if len(rows)}


def numbered(names: Sequence[str]) -> list[str]:
    """The names, with a number appended to repeated ones, so that all differ."""
    seen: collections.Counter[str] = collections.Counter()
    keys = []
    for name in names:
        keys.append(f"{name}\t{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return keys


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        records = json.loads(path.read_text())
        return [{name: record[name] for name in ("settings", "held_out")} for record in records]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); it says which examples this run must not train on: "
            "restore it, or begin in a new folder"
        ) from error
