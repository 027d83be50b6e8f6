"""Pairs of a side view and a frontal photo of the same person, and their split by person."""

import dataclasses
import random
from collections.abc import Sequence

import numpy as np

SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class FacePairIndex:
    """Which frontal row goes with which video row.

    Attributes:
      front_rows, video_rows: int64 `[P]`.
      person: int32 `[P]`, an index into `persons`.
      persons: names of the people who have pairs, in order of their first frontal row.
      unpaired: people with frontal rows but without a video row that passes the filter.
    """

    front_rows: np.ndarray
    video_rows: np.ndarray
    person: np.ndarray
    persons: list[str]
    unpaired: list[str]

    def __len__(self) -> int:
        return len(self.person)


def within_yaw(
    poses: np.ndarray,
    *,
    min_yaw_angle: float | None = None,
    max_yaw_angle: float | None = None,
    yaw_index: int = 0,
) -> np.ndarray:
    """Bool `[N]`: abs(min) <= abs(poses[:, yaw_index]) <= abs(max), both ends included.

    Args:
      poses: `[N, 3]` degrees.
      min_yaw_angle: None: no lower end.
      max_yaw_angle: None: no upper end.
      yaw_index: 0 is the entry that the original filters by, which is the in-plane tilt; 1 is the
        true yaw.
    """
    angles = np.abs(poses[:, yaw_index])
    low = 0.0 if min_yaw_angle is None else abs(min_yaw_angle)
    high = np.inf if max_yaw_angle is None else abs(max_yaw_angle)
    return (angles >= low) & (angles <= high)


def pair_views(
    front_persons: Sequence[str], video_persons: Sequence[str], video_kept: np.ndarray
) -> FacePairIndex:
    """Every frontal row of a person with every video row of the same person.

    People come in the order of their first frontal row, and frontal rows are the outer loop.

    Args:
      front_persons: `[F]` names; rows without a name (empty) are nobody's, and left out.
      video_persons: `[V]` names alike; people without a frontal row are left out.
      video_kept: bool `[V]`, the video rows to use; see `within_yaw`.

    Raises:
      ValueError: there is no pair at all.
    """
    front_of, video_of = _rows_of(front_persons), _rows_of(video_persons)
    front, video, person = [], [], []
    persons: list[str] = []
    unpaired: list[str] = []
    for name, front_rows in front_of.items():
        rows = np.array(video_of.get(name, []), np.int64)
        rows = rows[video_kept[rows]]
        if not len(rows):
            unpaired.append(name)
            continue
        front.append(np.repeat(front_rows, len(rows)))
        video.append(np.tile(rows, len(front_rows)))
        person.append(np.full(len(front[-1]), len(persons), np.int32))
        persons.append(name)
    if not persons:
        raise ValueError(
            f"no pairs: none of the {len(unpaired)} people with frontal rows has one of the "
            f"{int(video_kept.sum())} video rows (of {len(video_kept)}) that pass the yaw filter"
        )
    return FacePairIndex(
        front_rows=np.concatenate(front),
        video_rows=np.concatenate(video),
        person=np.concatenate(person),
        persons=persons,
        unpaired=unpaired,
    )


def split_by_person(
    person: np.ndarray, *, train_fraction: float = 0.6, val_fraction: float = 0.3, seed: int = 42
) -> dict[str, np.ndarray]:
    """Splits pairs so that nobody is in two splits, exactly as the original does.

    Python's generator shuffles the people; the first int(n * train_fraction) are train, the next
    int(n * val_fraction) val, the others test; the same generator then shuffles each split's pairs.

    Args:
      person: int `[P]`, the people counted from 0 in order of appearance.
      train_fraction: share of the people in train.
      val_fraction: share of the people in val.
      seed: of the shuffles.

    Returns:
      int64 indices of pairs for train, val and test. A split whose fraction is 0 may be left out.

    Raises:
      ValueError: a split that has a fraction gets nobody.
    """
    pairs_of: dict[int, list[int]] = {}
    for pair, index in enumerate(person.tolist()):
        pairs_of.setdefault(index, []).append(pair)
    people = list(pairs_of)
    generator = random.Random(seed)
    generator.shuffle(people)
    train_end = int(len(people) * train_fraction)
    val_end = train_end + int(len(people) * val_fraction)
    groups = people[:train_end], people[train_end:val_end], people[val_end:]
    fractions = train_fraction, val_fraction, 1.0 - train_fraction - val_fraction
    splits = {}
    for name, group, fraction in zip(SPLITS, groups, fractions, strict=True):
        pairs = [pair for index in group for pair in pairs_of[index]]
        generator.shuffle(pairs)
        if pairs:
            splits[name] = np.array(pairs, np.int64)
        elif fraction > 1e-6:
            sizes = "/".join(str(len(group)) for group in groups)
            raise ValueError(
                f"the {name} split is empty: {len(people)} people at the fractions "
                f"{train_fraction:g}/{val_fraction:g}/{fraction:.4g} give {sizes}; use more people "
                "(or a wider yaw filter), or other fractions"
            )
    return splits


def _rows_of(persons: Sequence[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(persons):
        if name:
            rows.setdefault(name, []).append(row)
    return rows
