"""The data of the hand_pose recipe: tar shards of hand sequences, or rendered hands."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from jaxrecipes.data.order import BatchOrder
from jaxrecipes.data.shard_order import ShardOrder
from jaxrecipes.paths import user_path
from jaxrecipes.recipes.hand_pose.config import HandRunConfig
from jaxrecipes.recipes.hand_pose.hands.draw import synthetic_hands
from jaxrecipes.recipes.hand_pose.selection import depth_weights, select_validation, source_weights
from jaxrecipes.recipes.hand_pose.shards import HandClips, read_hand_clips
from jaxrecipes.report.progress import Progress

_FIRST_VAL = 10_000_000
"""Index of the first embedded clip for validation: training clips are far below, whatever their
seed."""


def load_data(
    config: HandRunConfig,
    *,
    report_dir: pathlib.Path | None = None,
    train: bool = True,
    run_dir: pathlib.Path | None = None,
) -> dict[str, HandClips]:
    """The splits that have clips.

    The validation split depends on `data.val_seed` and the data alone.

    Args:
      config: where the data is; its seed is that of embedded training clips.
      report_dir: as of the other recipes; nothing is written.
      train: whether a run begins: then the training split is loaded. Otherwise shards at
        `data.path` that are not parted into folders train and val are all validated on. A folder
        test at `data.path` is the test split, whole.
      run_dir: not needed, whole shards are held out.

    Raises:
      FileNotFoundError: there is nothing at `data.path`.
      ValueError: no usable sample.
    """
    return _embedded(config, train) if config.data.path is None else _from_shards(config, train)


def load_inputs(config: HandRunConfig, inputs: Sequence[pathlib.Path]) -> HandClips:
    """Tars, folders of tars or patterns to predict, as they are validated; clips are in order.

    Raises:
      FileNotFoundError: an input that is not there.
      ValueError: no inputs, or none that can be used.
    """
    if not inputs:
        raise ValueError("no inputs; expected tar shards of hand sequences")
    return _read(config, [str(path) for path in inputs], config.data.val_stride, "inputs")


def training_order(config: HandRunConfig, train: HandClips, *, batch_size: int) -> BatchOrder:
    """All clips shuffled or shard after shard, and drawn by depth or source if so configured."""
    data, weights = config.data, None
    if data.depth_bins is not None:
        weights = depth_weights(train, data.depth_bins)
    elif data.source_weights:
        weights = source_weights(train, data.source_weights)
    if data.order == "shards":
        shards, sequences = train.shards, train.sequences
        return ShardOrder(shards, sequences, batch_size, config.seed, weights=weights)
    return BatchOrder(len(train), batch_size, config.seed, weights=weights)


def _embedded(config: HandRunConfig, train: bool) -> dict[str, HandClips]:
    data = config.data

    def drawn(num: int, *, seed: int, start: int) -> HandClips:
        arrays = synthetic_hands(
            num,
            seed=seed,
            start=start,
            image_size=data.embedded_image_size,
            num_frames=config.network.num_frame,
            max_angle=data.embedded_max_angle,
        )
        keys = np.array([f"synthetic_{start + i:08d}_0000" for i in range(num)])
        return HandClips(arrays, keys, None, np.zeros(num, np.int32))

    val = drawn(data.embedded_val, seed=data.val_seed, start=_FIRST_VAL)
    splits = {"val": _selected(config, val)}
    if train:
        splits["train"] = drawn(data.embedded_train, seed=config.data_seed, start=0)
    return splits


def _from_shards(config: HandRunConfig, train: bool) -> dict[str, HandClips]:
    data = config.data
    path, val_path = str(data.path), data.val_path
    train_path, own_val, test_path = (user_path(path) / name for name in ("train", "val", "test"))
    if val_path is None:
        if not any(character in path for character in "*?{") and not user_path(path).exists():
            raise FileNotFoundError(f"data.path {path} does not exist; expected a folder of tars")
        if train_path.is_dir() and own_val.is_dir():
            path, val_path = str(train_path), str(own_val)
        elif train:
            raise FileNotFoundError(
                f"{path} has no folders train and val; give data.val_path, the shards to validate "
                "on"
            )
        elif own_val.is_dir():
            val_path = str(own_val)
        elif not test_path.is_dir():
            val_path = path
    splits = {}
    if val_path is not None:
        splits["val"] = _selected(config, _read(config, val_path, data.val_stride, "val"))
    if test_path.is_dir():
        splits["test"] = _read(config, str(test_path), data.val_stride, "test")
    if train:
        splits["train"] = _read(config, path, data.stride, "train")
    return splits


def _read(config: HandRunConfig, sources: str | list[str], stride: int, name: str) -> HandClips:
    with Progress(f"reading {name}", unit="samples", last_line=False) as progress:
        return read_hand_clips(
            sources,
            num_frames=config.network.num_frame,
            stride=stride,
            decode=config.data.decode,
            exif_orientation=config.data.exif_orientation,
            cache_dir=config.data.cache_dir,
            progress=progress,
        )


def _selected(config: HandRunConfig, clips: HandClips) -> HandClips:
    data = config.data
    return clips.take(select_validation(clips, seed=data.val_seed, max_clips=data.max_val_clips))


def stand_in(config: HandRunConfig) -> tuple[HandRunConfig, int | None]:
    """A few rendered hands and no weights, to plan with; and how many clips there will be."""
    made = config.data.embedded_train if config.data.path is None else None
    data = dataclasses.replace(
        config.data,
        path=None,
        val_path=None,
        depth_bins=None,
        source_weights={},
        embedded_train=4,
        embedded_val=4,
    )
    backbone = dataclasses.replace(config.backbone, weights=None, from_scratch=True)
    return dataclasses.replace(config, backbone=backbone, data=data), made
