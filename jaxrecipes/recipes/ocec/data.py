"""The data of the OCEC recipe: a parquet of eye crops, or embedded procedural eyes."""

import dataclasses
import logging
import pathlib
from collections.abc import Sequence

import numpy as np

from jaxrecipes.data.decode import decode_images
from jaxrecipes.data.fingerprint import Identity
from jaxrecipes.data.image_folders import find_images, nameable
from jaxrecipes.data.order import BatchOrder
from jaxrecipes.recipes.ocec.config import EyeDataConfig, OcecRunConfig
from jaxrecipes.recipes.ocec.eyes.draw import draw_eyes
from jaxrecipes.recipes.ocec.labelled_images import (
    LabelledImages,
    check_labels,
    check_trainable,
    image_files,
    read_labelled_images,
    sampling_weights,
)
from jaxrecipes.report.progress import Progress

_log = logging.getLogger("jaxrecipes")

# Embedded eyes are drawn by index; validation starts far above any training set.
_FIRST_VAL_INDEX = 2**30


@dataclasses.dataclass(frozen=True)
class Eyes:
    """One split in order.

    Attributes:
      arrays: `image` uint8 `[N, H, W, 3]` and `label` int32 `[N]`.
      names: `[N]` paths, or made-up names of embedded eyes.
      sources: `[N]` the video or collection that each comes from.
      left_out: images that could not be read.
    """

    arrays: dict[str, np.ndarray]
    names: list[str]
    sources: list[str]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.names)

    @property
    def identity(self) -> Identity:
        """Paths and labels."""
        return {"name": self.names, "label": self.arrays["label"]}


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
        return _embedded(config.data, config.seed, train)
    data = read_labelled_images(config.data.path)
    if train:
        check_trainable(data)
    else:
        check_labels(data)
    wanted = [s for s, n in data.split_counts().items() if n and (train or s != "train")]
    return {split: _decode(data.subset(split), config.data, split, report_dir) for split in wanted}


def training_order(config: OcecRunConfig, train: Eyes, *, batch_size: int) -> BatchOrder | None:
    """With `data.weighted_sampling` draws with replacement, of both classes equally often."""
    if not config.data.weighted_sampling:
        return None
    weights = sampling_weights(train.arrays["label"])
    return BatchOrder(len(train), batch_size, config.seed, weights=weights)


def load_inputs(config: OcecRunConfig, inputs: Sequence[pathlib.Path]) -> Eyes:
    """Images to predict: files of any type, folders searched for images, and parquet files with
    their rows of every split.

    Raises:
      FileNotFoundError: nothing was found; single missing paths only warn.
    """
    parts = []
    files: list[pathlib.Path] = []
    for path in inputs:
        if path.suffix == ".parquet" and path.is_file():
            parts.append(_decode(read_labelled_images(path), config.data, path.name, None))
        elif path.is_dir():
            files += find_images(path)
        elif path.is_file():
            files += nameable([path])
        else:
            _log.warning("%s does not exist; left out", path)
    if files:
        parts.append(_decode(image_files(files), config.data, "images", None))
    if not parts:
        raise FileNotFoundError(f"no image found in {', '.join(map(str, inputs)) or 'the inputs'}")
    arrays = {
        name: np.concatenate([part.arrays[name] for part in parts]) for name in ("image", "label")
    }
    return Eyes(
        arrays,
        [name for part in parts for name in part.names],
        [source for part in parts for source in part.sources],
    )


def _decode(
    data: LabelledImages, config: EyeDataConfig, name: str, report_dir: pathlib.Path | None
) -> Eyes:
    listed = None if report_dir is None else report_dir / f"unreadable_{name}.csv"
    with Progress(f"decoding {name}", total=len(data), unit="images", last_line=False) as progress:
        decoded = decode_images(
            data,
            config.image_size,
            exif_orientation=config.exif_orientation,
            cache_dir=config.cache_dir,
            on_unreadable=config.on_unreadable,
            unreadable_file=listed,
            num_threads=config.decode_workers,
            progress=progress,
        )
    if decoded.unreadable:
        first = decoded.unreadable[0]
        _log.warning(
            "%d of %d images of %s cannot be read and are left out; %s",
            *(len(decoded.unreadable), len(data), name),
            f"they are listed in {listed}"
            if listed
            else f"the first is {first.path}: {first.reason}",
        )
    kept = decoded.data
    return Eyes(
        {"image": decoded.images, "label": kept.labels},
        list(kept.paths),
        list(kept.source),
        len(decoded.unreadable),
    )


def _embedded(config: EyeDataConfig, seed: int, train: bool) -> dict[str, Eyes]:
    ranges = {"train": range(config.embedded_train)} if train else {}
    ranges["val"] = range(_FIRST_VAL_INDEX, _FIRST_VAL_INDEX + config.embedded_val)
    return {
        split: _draw(config.image_size, seed, indices, split) for split, indices in ranges.items()
    }


def _draw(image_size: tuple[int, int], seed: int, indices: range, split: str) -> Eyes:
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
