"""Which checkpoints are kept: the newest ones, and those with the best scores."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from jaxrecipes.checkpoint import folder
from jaxrecipes.checkpoint.leaves import CheckpointCorrupt

Mode = Literal["max", "min"]


def prune(directory: Path, keep_latest: int, keep_best: int, mode: Mode) -> None:
    """Deletes all checkpoints except the latest and the best ones.

    Raises:
      OSError: one cannot be deleted.
    """
    saved = folder.committed(directory)
    keep = {*list(saved)[-keep_latest:], *ranked(saved, mode)[:keep_best]}
    kept = {saved[step] for step in keep}
    for _, _, path in folder.versions(directory):
        if path not in kept:
            folder.remove(path)


def ranked(saved: Mapping[int, Path], mode: Mode) -> list[int]:
    """Steps whose score is comparable with the newest one's, best first.

    `judged_by` in the metadata may say which metric the score is.
    """
    scores: dict[int, float] = {}
    judge = None
    for step, path in reversed(list(saved.items())):
        try:
            manifest = folder.read_manifest(path)
        except CheckpointCorrupt:
            continue
        judged_by = manifest["metadata"].get("judged_by")
        judge = judge or judged_by
        score = manifest["score"]
        if score is not None and judged_by in (None, judge):
            scores[step] = -score if mode == "max" else score
    return sorted(scores, key=lambda step: (scores[step], step))
