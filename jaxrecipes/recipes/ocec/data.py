"""The data of the OCEC recipe: eye crops from parquet files, or procedural eyes."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from jaxrecipes.data.order import BatchOrder
from jaxrecipes.recipes.ocec.config import EyeDataConfig, OcecRunConfig
from jaxrecipes.recipes.ocec.examples import Eyes, sampling_weights
from jaxrecipes.report.progress import Progress

# Procedural eyes are drawn by index; validation starts far above any training set.
_FIRST_VAL_INDEX = 2**30


def load_data(
    config: OcecRunConfig,
    *,
    report_dir: pathlib.Path | None = None,
    train: bool = True,
    run_dir: pathlib.Path | None = None,
) -> dict[str, Eyes]:
    """The splits that have examples, decoded at the training size.

    Args:
      config: where the data is and how it is decoded; its seed is that of embedded eyes.
      report_dir: where `unreadable_SPLIT.csv` goes when images cannot be read.
      train: whether to check that the data can be trained on, and to load the training split.
      run_dir: not needed, the data says what is held out.

    Raises:
      FileNotFoundError: there is nothing at `config.data.path`.
      ValueError: a missing column, no training rows, a single class, an unreadable image that may
        not be skipped ...
    """
    if config.data.path is None:
        return _embedded(config.data, config.data_seed, train)
    from jaxrecipes.recipes.ocec import (
        image_data,
    )  # here, because it imports everything that decodes

    return image_data.load_splits(config.data, train=train, report_dir=report_dir)


def training_order(config: OcecRunConfig, train: Eyes, *, batch_size: int) -> BatchOrder | None:
    """With `data.weighted_sampling` draws with replacement, of both classes equally often."""
    if not config.data.weighted_sampling:
        return None
    weights = sampling_weights(train.arrays["label"])
    return BatchOrder(len(train), batch_size, config.seed, weights=weights)


def load_inputs(config: OcecRunConfig, inputs: Sequence[pathlib.Path]) -> Eyes:
    """Images to predict; see `image_data.load_inputs`."""
    from jaxrecipes.recipes.ocec import image_data

    return image_data.load_inputs(config.data, inputs)


def _embedded(config: EyeDataConfig, seed: int, train: bool) -> dict[str, Eyes]:
    ranges = {"train": range(config.embedded_train)} if train else {}
    ranges["val"] = range(_FIRST_VAL_INDEX, _FIRST_VAL_INDEX + config.embedded_val)
    return {
        split: _draw(config.image_size, seed, indices, split) for split, indices in ranges.items()
    }


def _draw(image_size: tuple[int, int], seed: int, indices: range, split: str) -> Eyes:
    from jaxrecipes.recipes.ocec.eyes.draw import draw_eyes

    height, width = image_size
    images, labels = [], []
    with Progress(f"drawing {split}", total=len(indices), unit="eyes", last_line=False) as progress:
        for start in range(0, len(indices), 256):
            chunk = np.asarray(indices[start : start + 256])
            drawn, classes = draw_eyes(seed, chunk, height=height, width=width)
            images.append(drawn)
            labels.append(classes)
            progress.advance(len(chunk))
    arrays = {"image": np.concatenate(images), "label": np.concatenate(labels)}
    names = [f"embedded/{split}/{i:06d}" for i in range(len(indices))]
    return Eyes(arrays, names, ["embedded"] * len(indices))


def stand_in(config: OcecRunConfig) -> tuple[OcecRunConfig, int | None]:
    """A few embedded eyes of the same size, to plan with; and how many there will be."""
    data = dataclasses.replace(config.data, path=None, embedded_train=16, embedded_val=16)
    made = config.data.embedded_train if config.data.path is None else None
    return dataclasses.replace(config, data=data), made
