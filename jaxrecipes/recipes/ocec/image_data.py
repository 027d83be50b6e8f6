"""Eye crops from files: the splits of parquet files, and images to predict."""

import logging
import pathlib
from collections.abc import Sequence

import numpy as np

from jaxrecipes.data.decode import decode_images
from jaxrecipes.data.image_folders import find_images, nameable
from jaxrecipes.recipes.ocec.config import EyeDataConfig
from jaxrecipes.recipes.ocec.examples import Eyes
from jaxrecipes.recipes.ocec.labelled_images import (
    LabelledImages,
    check_labels,
    check_trainable,
    image_files,
    read_labelled_images,
)
from jaxrecipes.report.progress import Progress

_log = logging.getLogger("jaxrecipes")


def load_splits(
    config: EyeDataConfig, *, train: bool, report_dir: pathlib.Path | None
) -> dict[str, Eyes]:
    """The splits of the parquet at `config.path`; see `data.load_data`."""
    data = read_labelled_images(str(config.path))
    if train:
        check_trainable(data)
    else:
        check_labels(data)
    wanted = [s for s, n in data.split_counts().items() if n and (train or s != "train")]
    return {split: _decode(data.subset(split), config, split, report_dir) for split in wanted}


def load_inputs(config: EyeDataConfig, inputs: Sequence[pathlib.Path]) -> Eyes:
    """Images to predict: files of any type, folders searched for images, and parquet files with
    their rows of every split.

    Raises:
      FileNotFoundError: nothing was found; single missing paths only warn.
    """
    parts = []
    files: list[pathlib.Path] = []
    for path in inputs:
        if path.suffix == ".parquet" and path.is_file():
            parts.append(_decode(read_labelled_images(path), config, path.name, None))
        elif path.is_dir():
            files += find_images(path)
        elif path.is_file():
            files += nameable([path])
        else:
            _log.warning("%s does not exist; left out", path)
    if files:
        parts.append(_decode(image_files(files), config, "images", None))
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
