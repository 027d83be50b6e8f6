"""The data of the face recipes: pairs of a side view and a frontal photo of the same person."""

import dataclasses
import logging
import pathlib
from typing import Annotated

import numpy as np
from annotated_types import Interval

from jaxrecipes.data.fingerprint import Identity
from jaxrecipes.data.held_out import on_record
from jaxrecipes.data.indexed_rows import Arrays, IndexedRows
from jaxrecipes.fields import Count, Hparam, Probability, Seed, hparam
from jaxrecipes.files import write_bytes
from jaxrecipes.recipes.faces.folder import FaceSide, FaceViews, read_face_folder
from jaxrecipes.recipes.faces.pairs import FacePairIndex, pair_views, split_by_person, within_yaw
from jaxrecipes.recipes.faces.synthetic import draw_faces
from jaxrecipes.train.config import DataConfig, RunConfig, require

_log = logging.getLogger("jaxrecipes")

Degrees = Annotated[float, Interval(ge=-360, le=360)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaceDataConfig(DataConfig):
    """Embeddings of faces. `path` is a folder of face features; None: synthetic faces drawn from
    the seed.
    """

    batch_size: Count = 32
    min_yaw_angle: Degrees | None = None
    """Leave out pairs whose absolute angle is below this, in degrees. None: no limit."""
    max_yaw_angle: Degrees | None = None
    """Leave out pairs whose absolute angle is above this, in degrees. None: no limit."""
    yaw_index: Annotated[int, Interval(ge=0, le=2)] = 0
    """Entry of the pose to which these limits apply. 0: the original's, which is in fact the
    in-plane tilt. 1: the true yaw.
    """
    train_fraction: Annotated[float, Interval(gt=0, le=1)] = 0.6
    """Share of the people whose pairs are trained on."""
    val_fraction: Probability = 0.3
    """Share of the people for validation; the others are the test split."""
    split_seed: Seed = 42
    """Seed of the split of people."""
    reflect_prob: Hparam[Probability] = hparam(0.0, off_at_zero=True)
    """Probability that a person in a batch gets random signs on the coordinates of the features,
    the same for source and target. Makes new identities from data of few people. Not in the
    original.
    """
    embedded_people: Count = 300
    """Synthetic data: number of people in all splits together."""
    embedded_views: Count = 10
    """Synthetic data: side views per person."""

    def __post_init__(self):
        super().__post_init__()
        require(
            self.train_fraction + self.val_fraction < 1 + 1e-6,
            f"data.train_fraction {self.train_fraction} and data.val_fraction {self.val_fraction} "
            "add up to more than 1",
        )


@dataclasses.dataclass(frozen=True)
class FacePairs:
    """One split, or inputs to predict, in order.

    Attributes:
      arrays: float32 `src` `[N, D]`, `tgt` `[N, D]` and `pose` `[N, 3]` in degrees, `person` int32
        `[N]`, and `keypoints_3d` float32 `[N, 5, 3]` where they were asked for.
      names: `[N]` the side views' image names, or made-up ones.
      persons: `[N]` names; empty where the person is not known.
      front_rows, video_rows: int64 `[N]`, the rows of the data that a pair was made of.
      is_paired: whether there are targets; otherwise `src` stands in for `tgt`, 0 for `person`.
      has_pose: whether poses are known; otherwise `pose` is 0.
    """

    arrays: Arrays
    names: list[str]
    persons: list[str]
    front_rows: np.ndarray
    video_rows: np.ndarray
    is_paired: bool = True
    has_pose: bool = True

    def __len__(self) -> int:
        return len(self.names)

    @property
    def identity(self) -> Identity:
        """Names, people, poses, and keypoints where they were asked for."""
        labels = {name: self.arrays[name] for name in self.arrays if name not in ("src", "tgt")}
        return {"name": self.names, **labels, "person": self.persons}

    @property
    def left_out(self) -> int:
        """None: a row that cannot be used is an error."""
        return 0


def load_data(
    config: RunConfig,
    *,
    feat_dim: int,
    report_dir: pathlib.Path | None = None,
    train: bool = True,
    run_dir: pathlib.Path | None = None,
    keypoints: bool = False,
) -> dict[str, FacePairs]:
    """The splits that have pairs, split by person; of the features only rows that are used.

    Pairs are in the original's order. In training ours differs: batch i is a function of (seed, i),
    see `data.order`, where the original shuffles with PyTorch's generator.

    Args:
      config: its `data` is a `FaceDataConfig`; its `data_seed` is that of embedded data.
      feat_dim: width of the features that the network takes. Embedded data has it, a folder must.
      report_dir: where the names of people without pairs go, as `people_without_pairs.txt`.
      train: whether to load the training split.
      run_dir: of a run, whose people stay in their split when others come.
      keypoints: whether to load `keypoints_3d`.

    Raises:
      FileNotFoundError: a missing file.
      ValueError: data that cannot be used, no pairs, too few people, another width.
    """
    data = data_config(config)
    if data.path is None:
        views = draw_faces(
            config.data_seed,
            num_people=data.embedded_people,
            views_per_person=data.embedded_views,
            feat_dim=feat_dim,
        )
    else:
        views = read_face_folder(data.path, keypoints=keypoints)
        check_width(views.front.features.shape[1], feat_dim, data.path)
    kept = within_yaw(
        views.video.poses,
        min_yaw_angle=data.min_yaw_angle,
        max_yaw_angle=data.max_yaw_angle,
        yaw_index=data.yaw_index,
    )
    pairs = pair_views(views.front.persons, views.video.persons, kept)
    _report_unpaired(pairs, report_dir)
    splits = split_by_person(
        pairs.person,
        train_fraction=data.train_fraction,
        val_fraction=data.val_fraction,
        seed=data.split_seed,
    )
    fractions = {"train_fraction": data.train_fraction, "val_fraction": data.val_fraction}
    kept_splits = on_record(
        run_dir,
        splits,
        [pairs.persons[i] for i in pairs.person.tolist()],
        settings={"by": "person", **fractions, "seed": data.split_seed},
        write=report_dir is not None,
    )
    return {
        name: _gather(views, pairs, chosen, keypoints)
        for name, chosen in kept_splits.items()
        if train or name != "train"
    }


def data_config(config: RunConfig) -> FaceDataConfig:
    """`config.data`, which the face recipes narrow."""
    if not isinstance(config.data, FaceDataConfig):
        raise TypeError(f"config.data is a {type(config.data).__name__}; expected a FaceDataConfig")
    return config.data


def _gather(
    views: FaceViews, pairs: FacePairIndex, chosen: np.ndarray, keypoints: bool
) -> FacePairs:
    front_rows, video_rows = pairs.front_rows[chosen], pairs.video_rows[chosen]
    person = pairs.person[chosen]
    front, at_front = _compact(front_rows)
    video, at_video = _compact(video_rows)
    arrays: dict[str, np.ndarray | IndexedRows] = {
        "src": IndexedRows(views.video.take_features(video), at_video),
        "tgt": IndexedRows(views.front.take_features(front), at_front),
        "pose": IndexedRows(views.video.poses[video], at_video),
        "person": person,
    }
    if keypoints:
        arrays["keypoints_3d"] = IndexedRows(views.video.take_keypoints(video), at_video)
    return FacePairs(
        arrays=arrays,
        names=row_names(views.video, video_rows),
        persons=[pairs.persons[i] for i in person],
        front_rows=front_rows,
        video_rows=video_rows,
    )


def _compact(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows that occur, sorted, and where among them each is, int32."""
    used, at = np.unique(rows, return_inverse=True)
    return used, at.astype(np.int32)


def row_names(side: FaceSide, rows: np.ndarray) -> list[str]:
    """What to call rows of a side: their image, or their number."""
    return [side.images[row] or f"video/{row}" for row in rows.tolist()]


def _report_unpaired(pairs: FacePairIndex, report_dir: pathlib.Path | None) -> None:
    if not pairs.unpaired:
        return
    where = ""
    if report_dir is not None:
        file = report_dir / "people_without_pairs.txt"
        write_bytes(file, "".join(f"{name}\n" for name in pairs.unpaired).encode())
        where = f"; they are listed in {file}"
    _log.warning(
        "%d of %d people have no video row that passes the yaw filter and are left out (%s)%s",
        *(len(pairs.unpaired), len(pairs.unpaired) + len(pairs.persons)),
        ", ".join(pairs.unpaired[:5]) + (" ..." if len(pairs.unpaired) > 5 else ""),
        where,
    )


def check_width(found: int, feat_dim: int, where: str) -> None:
    """Raises a ValueError unless features have the width that the network takes."""
    if found != feat_dim:
        raise ValueError(
            f"the features of {where} have {found} numbers, but the network takes {feat_dim}"
        )
