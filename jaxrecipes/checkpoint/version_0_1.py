"""Reads checkpoints of version 0.1: small arrays in one vector of bytes, leaves named by number.

Their folders have a manifest of format 1 and Orbax's tree in `arrays/`, and are named `STEP.1`,
`STEP.2` ... if a step was saved again.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxrecipes import host_logging
from jaxrecipes.checkpoint.arrays import as_wanted, stored_as
from jaxrecipes.checkpoint.leaves import Record, by_path, check_same

with host_logging.left_alone():
    from orbax.checkpoint import v1

FORMAT = 1
_PACK = "pack"
_AGAIN = re.compile(r"(0|[1-9]\d*)\.([1-9]\d*)", re.ASCII)


def saved_again(name: str) -> tuple[int, int] | None:
    """The step and the count of a folder named `STEP.1`, `STEP.2` ...; None for other names."""
    match = _AGAIN.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def records(manifest: Mapping[str, Any]) -> list[Record]:
    """The records of the checkpoint's leaves; the state of a run was one level down."""
    return [Record.from_json({**place, "path": path}) for path, place in _places(manifest).items()]


def load(folder: Path, manifest: Mapping[str, Any], abstract_tree: Any, *, partial: bool) -> Any:
    """Like `arrays.load`."""
    wanted = by_path(abstract_tree)
    saved = {record.path: record for record in records(manifest)}
    check_same(wanted, saved, partial=partial)
    places = _places(manifest)
    asked = {
        places[path]["name"]: stored_as(saved[path], leaf)
        for path, leaf in wanted.items()
        if places[path]["offset"] is None
    }
    ends = [
        place["offset"] + _nbytes(saved[path])
        for path, place in places.items()
        if place["offset"] is not None
    ]
    if max(ends, default=0):
        asked[_PACK] = np.empty(max(ends), np.uint8)
    context = v1.Context()
    context.pytree.loading.partial_load = True
    with host_logging.left_alone(), context:
        arrays = v1.load(folder / "arrays", asked) if asked else {}

    def stored(path: str) -> Any:
        start, record = places[path]["offset"], saved[path]
        if start is None:
            return arrays[places[path]["name"]]
        raw = arrays[_PACK][start : start + _nbytes(record)].copy()
        return raw.view(record.stored_dtype).reshape(record.stored_shape)

    found = {path: stored(path) for path, leaf in wanted.items() if leaf.size}
    return as_wanted(found, saved, abstract_tree)


def _places(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    places = {leaf["path"]: leaf for leaf in manifest["leaves"]}
    if "state/num_skipped_in_row" not in places:  # not the state of a run
        return places
    return {path.removeprefix("state/"): leaf for path, leaf in places.items()}


def _nbytes(record: Record) -> int:
    return math.prod(record.stored_shape) * record.stored_dtype.itemsize
