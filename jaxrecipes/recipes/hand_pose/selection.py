"""Which clips are validated on, and chances for reweighting."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxrecipes.data.order import BatchOrder
from jaxrecipes.errors import unknown_name
from jaxrecipes.recipes.hand_pose.shards import HandClips


def select_validation(clips: HandClips, *, seed: int, max_clips: int | None = None) -> np.ndarray:
    """The rows to validate on, in a shuffled order that is a function of the seed and the shards.

    Nothing else matters: not the seed of training, the batch size, the readers or a resume. A
    smaller `max_clips` gives the first of a larger one's.

    Args:
      clips: of the validation shards.
      seed: of the shuffle, not negative.
      max_clips: at most so many; None: all.

    Returns:
      int32 `[n]`.
    """
    return BatchOrder(len(clips), 1, seed).epoch_indices(0)[:max_clips]


def depth_weights(clips: HandClips, bins: int | Sequence[float]) -> np.ndarray:
    """Chances that make every occupied bin of depth as likely as the next one.

    The depth is that of the wrist in the last frame. Clips without it have the mean chance.

    Args:
      clips: of the training shards.
      bins: how many of equal width between the nearest and the furthest, or their edges in mm,
        ascending; what lies outside counts to the first or last.

    Returns:
      `[N]` float64 with mean 1.

    Raises:
      ValueError: fewer than one bin, or edges that do not ascend.
    """
    last = {name: np.asarray(clips.arrays[name])[:, -1, 0] for name in ("joint_cam", "joint_valid")}
    known = last["joint_valid"] > 0.5
    depth = last["joint_cam"][known, 2]
    weights = np.ones(len(clips))
    if not known.any():
        return weights
    edges = np.linspace(depth.min(), depth.max(), bins + 1) if isinstance(bins, int) else bins
    edges = np.asarray(edges, np.float64)
    # Equal depths make equal edges, and one bin.
    if len(edges) < 2 or (not isinstance(bins, int) and (np.diff(edges) <= 0).any()):
        raise ValueError(
            f"depth bins {bins}; expected at least 1, or two or more ascending edges in mm"
        )
    bin_of = np.searchsorted(edges[1:-1], depth, side="right")
    chances = 1.0 / np.bincount(bin_of)[bin_of]
    weights[known] = chances / chances.mean()
    return weights


def source_weights(clips: HandClips, weights: Mapping[str, float]) -> np.ndarray:
    """Chances that make a source as likely as its weight says, whatever its number of clips.

    Args:
      clips: of the training shards, with sources.
      weights: of every source that occurs, not negative.

    Returns:
      `[N]` float64 with mean 1.

    Raises:
      ValueError: a source without weight, one that does not occur, or all weights 0.
    """
    if clips.sources is None:
        raise ValueError("the sources of these clips are not known, so they cannot be weighted")
    found, source_of, counts = np.unique(clips.sources, return_inverse=True, return_counts=True)
    for name in weights:
        if name not in found:
            raise unknown_name("source", name, found.tolist())
    missing = sorted(set(found.tolist()) - set(weights))
    if missing:
        raise ValueError(f"no weight for the sources {', '.join(missing)}; give 0 to leave one out")
    chances = (np.array([weights[name] for name in found.tolist()]) / counts)[source_of]
    if not np.isfinite(chances).all() or (chances < 0).any() or not chances.any():
        raise ValueError(f"source weights {dict(weights)}; expected numbers, 0 or more, not all 0")
    return chances / chances.mean()
