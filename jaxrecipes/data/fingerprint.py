"""A data set's fingerprint, made from names, order and labels, without reading the examples."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrecipes.data.indexed_rows import Arrays, IndexedRows

Identity = Mapping[str, np.ndarray | IndexedRows | Sequence[str]]
"""What identifies a split: `name`, the name of each example, and its labels; `[N, ...]` in
order.
"""

_COMPARED = ("examples", "digests")
_CHUNK = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitFingerprint:
    """One split.

    Attributes:
      examples: how many.
      left_out: how many more could not be read.
      digests: by name and label; each depends on the order of the examples.
    """

    examples: int
    digests: Mapping[str, str]
    left_out: int = 0


Fingerprint = Mapping[str, SplitFingerprint]
"""The fingerprints of the splits of a run, by name."""


def of_split(identity: Identity, *, left_out: int = 0) -> SplitFingerprint:
    """The fingerprint of one split.

    Args:
      identity: at least one entry.
      left_out: examples that could not be read.
    """
    return SplitFingerprint(
        examples=len(next(iter(identity.values()))),
        digests={name: _digest(values) for name, values in sorted(identity.items())},
        left_out=left_out,
    )


def all_but_pixels(arrays: Arrays) -> Identity:
    """The identity of plain arrays: all of them except images."""
    known = {
        name: array
        for name, array in arrays.items()
        if not (array.dtype == np.uint8 and len(array.shape) > 2)
    }
    return known or arrays


def judged_on(fingerprint: Fingerprint) -> str:
    """Identifies the examples that validation metrics are computed from: the validation split, or
    the training split if there is none.
    """
    split = fingerprint.get("val") or fingerprint["train"]
    return _digest(list(split.digests.values()))


def as_json(fingerprint: Fingerprint) -> dict[str, Any]:
    """The JSON form, for a later comparison by `differences`."""
    return {name: dataclasses.asdict(split) for name, split in fingerprint.items()}


def differences(stored: Mapping[str, Any], found: Fingerprint) -> list[str]:
    """What has changed since a stored fingerprint, in a few words per split ("as before" for
    unchanged ones); empty if nothing has changed.
    """
    now, lines, changed = as_json(found), [], False
    for name in dict.fromkeys([*stored, *now]):
        change = _difference(stored.get(name), now.get(name))
        changed |= change is not None
        lines.append(f"{name}: {change or 'as before'}")
    return lines if changed else []


def _difference(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> str | None:
    if before is None or after is None:
        sizes = ["none" if split is None else str(split["examples"]) for split in (before, after)]
        return f"{' -> '.join(sizes)} examples"
    counts, digests = (tuple(split[key] for split in (before, after)) for key in _COMPARED)
    if counts[0] == counts[1] and digests[0] == digests[1]:
        return None
    unreadable = ""
    if before["left_out"] != after["left_out"]:
        unreadable = f" ({before['left_out']} -> {after['left_out']} could not be read)"
    if counts[0] != counts[1]:
        return f"{counts[0]} -> {counts[1]} examples{unreadable}"
    names = [n for n in dict.fromkeys([*digests[0], *digests[1]]) if _differ(digests, n)]
    what = "other examples, or another order" if "name" in names else f"other {' '.join(names)}"
    return f"{what} ({after['examples']} examples){unreadable}"


def _differ(digests: Sequence[Mapping[str, str]], name: str) -> bool:
    return digests[0].get(name) != digests[1].get(name)


def _digest(values: np.ndarray | IndexedRows | Sequence[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(values, IndexedRows):
        # Clips overlap, so each used row of the table is hashed only once.
        used, at = np.unique(values.rows, return_inverse=True)
        digest.update(_digest(values.table[used]).encode())
        digest.update(_digest(at.reshape(values.rows.shape).astype(np.int64)).encode())
    elif isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        digest.update(f"{values.dtype.str} {values.shape}\n".encode())
        for start in range(0, len(values), _CHUNK):
            digest.update(np.ascontiguousarray(values[start : start + _CHUNK]).data)
    else:
        digest.update(f"{len(values)}\n".encode())
        for start in range(0, len(values), _CHUNK):
            texts = [str(value) for value in values[start : start + _CHUNK]]
            # With lengths, so that different lists of strings never give the same bytes.
            digest.update(" ".join(str(len(text)) for text in texts).encode())
            digest.update("\0".join(texts).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
