"""The data of the clip_iqa recipe: rated images with their prompts, or embedded scenes."""

import dataclasses
import logging
import pathlib
from collections.abc import Sequence

import numpy as np

from jaxrecipes.data.decode import Fit, decode_images
from jaxrecipes.data.fingerprint import Identity
from jaxrecipes.data.held_out import Drawn, numbered, on_record
from jaxrecipes.data.indexed_rows import Arrays, IndexedRows
from jaxrecipes.models.clip.tokenizer import ClipTokenizer
from jaxrecipes.paths import user_path
from jaxrecipes.recipes.clip_iqa.config import IqaDataConfig, IqaRunConfig
from jaxrecipes.recipes.clip_iqa.embeddings import clip_params, with_embeddings
from jaxrecipes.recipes.clip_iqa.rated_images import RatedTable, read_rated_images
from jaxrecipes.recipes.clip_iqa.scenes.draw import draw_scenes
from jaxrecipes.recipes.clip_iqa.split import split_prompts, split_rows
from jaxrecipes.report.progress import Progress

_log = logging.getLogger("jaxrecipes")

_LENGTHS = (16, 24, 32, 48, 77)
"""Texts are padded to the smallest of these lengths that holds them all, so that few programs are
compiled.
"""


@dataclasses.dataclass(frozen=True)
class RatedImages:
    """One split, or inputs to predict, in order.

    Attributes:
      arrays: `image` uint8 `[N, H, W, 3]`; `tokens` int32 `[N, T]`, a row of each distinct prompt;
        `quality` and `consistency` float32 `[N]` in [0, 1], 0 where they are not known;
        `image_size` int32 `[N, 2]`, height and width of the files, of images that are stored to be
        cropped; `explanation_tokens` int32 `[N, E]` and `has_explanation` float32 `[N]` where they
        are learnt from. `text_embedding` or `text_pooled`, and `image_embedding`, `[N, d]`, may
        stand in for `tokens` and `image`.
      names: `[N]` the images' names.
      prompts: `[N]` texts.
      generators: `[N]` what made each image; None: not known.
      explanations: `[N]` texts; None: they are not learnt from.
      left_out: images that could not be read.
    """

    arrays: Arrays
    names: list[str]
    prompts: list[str]
    generators: list[str] | None
    explanations: list[str] | None = None
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.names)

    @property
    def identity(self) -> Identity:
        """Names, texts and scores."""
        texts = {} if self.explanations is None else {"explanation": self.explanations}
        scores = {name: self.arrays[name] for name in ("quality", "consistency")}
        return {"name": self.names, "prompt": self.prompts, **texts, **scores}


def load_data(
    config: IqaRunConfig,
    *,
    report_dir: pathlib.Path | None = None,
    train: bool = True,
    run_dir: pathlib.Path | None = None,
) -> dict[str, RatedImages]:
    """The splits that have examples.

    Args:
      config: where the data is, how it is split and what is frozen; its `data_seed` is that of
        embedded scenes.
      report_dir: where `unreadable_SPLIT.csv` goes when images cannot be read.
      train: whether a run begins: then the training split is loaded, and embeddings of frozen
        towers stand in for what they are computed from.
      run_dir: of a run, whose rows or prompts stay in their split when others come.

    Raises:
      FileNotFoundError: there is nothing at `config.data.path`, or images are missing.
      ValueError: a missing column, no training rows, an unreadable image that may not be skipped...
    """
    if config.data.path is None:
        splits = _embedded(config, train)
    else:
        table = _read(config, user_path(config.data.path))
        parts = {
            name: table.keep(np.isin(np.arange(len(table)), rows))
            for name, rows in _split(table, config.data, run_dir, report_dir is not None).items()
            if len(rows) and (train or name != "train")
        }
        if train and "train" not in parts:
            raise ValueError(f"{config.data.path} has no row of the train split")
        length = _text_length(config, [text for part in parts.values() for text in _texts(part)])
        splits = {
            name: _load(config, part, name, length, report_dir) for name, part in parts.items()
        }
    params = clip_params(config) if train else None
    if params is None:
        return splits
    return {
        name: dataclasses.replace(split, arrays=with_embeddings(config, split.arrays, params))
        for name, split in splits.items()
    }


def load_inputs(config: IqaRunConfig, inputs: Sequence[pathlib.Path]) -> RatedImages:
    """Images to predict: CSV files with the columns name and prompt beside their images, or in
    `data.image_folder`, and parquet files. Scores and explanations are not needed.

    Raises:
      FileNotFoundError: a path or an image that is not there.
      ValueError: another type of file, a missing column, a row without a prompt.
    """
    if not inputs:
        raise ValueError(
            "no inputs; expected CSV or parquet files with the columns name and prompt"
        )
    bare = dataclasses.replace(
        config,
        loss=dataclasses.replace(config.loss, explanations=False),
        augment=dataclasses.replace(config.augment, enabled=False),
    )
    tables = []
    for path in inputs:
        if path.is_file() and path.suffix.lower() not in (".csv", ".parquet"):
            raise ValueError(
                f"{path} is neither CSV nor parquet; list images and their prompts in a CSV file "
                "with the columns name and prompt"
            )
        tables.append(_read(bare, path, rated=False))
    length = _text_length(bare, [text for table in tables for text in _texts(table)])
    parts = [_load(bare, table, table.root.name, length, None) for table in tables]
    return RatedImages(
        {
            name: np.concatenate([np.asarray(part.arrays[name]) for part in parts])
            for name in parts[0].arrays
        },
        [name for part in parts for name in part.names],
        [prompt for part in parts for prompt in part.prompts],
        None,
    )


def _read(config: IqaRunConfig, path: pathlib.Path, *, rated: bool = True) -> RatedTable:
    data = config.data
    table = read_rated_images(
        path,
        image_folder=data.image_folder,
        explanation_column=data.explanation_column if config.loss.explanations else None,
        rated=rated,
        embeddings=data.image_embeddings,
    )
    if table.embeddings is not None:
        size, wanted = table.embeddings.shape[1], config.network.clip.projection_dim
        if size != wanted:
            raise ValueError(
                f"{path}: image_embedding has {size} numbers, clip.custom.projection_dim is "
                f"{wanted}; they must agree"
            )
    elif data.on_unreadable == "error":
        table.check_images_exist()
    return table


def _split(
    table: RatedTable, data: IqaDataConfig, run_dir: pathlib.Path | None, write: bool
) -> Drawn:
    if data.split == "auto" and table.split is not None:
        return {name: np.flatnonzero(table.split == name) for name in ("train", "val", "test")}
    size, seed = data.test_size, data.split_seed
    if data.split == "prompts":
        train, val = split_prompts(table.prompts, test_size=size, seed=seed)
        by, keys = "prompt", [str(prompt) for prompt in table.prompts]
    else:
        train, val = split_rows(len(table), test_size=size, seed=seed)
        by, keys = "name", numbered(list(table.paths))
    settings = {"by": by, "test_size": size, "seed": seed}
    drawn = {"train": train, "val": val}
    return on_record(run_dir, drawn, keys, settings=settings, write=write)


def _texts(table: RatedTable) -> list[str]:
    return [*table.prompts, *(text or "" for text in _explanations(table))]


def _explanations(table: RatedTable) -> list[str | None]:
    return [] if table.explanations is None else list(table.explanations)


def _text_length(config: IqaRunConfig, texts: Sequence[str]) -> int:
    """The least length that holds every text, or all that the text tower takes."""
    text, tokenizer = config.network.clip.text, _tokenizer(config)
    ids = [tokenizer.encode(each) for each in set(texts)]
    highest = max(map(max, ids))
    if highest >= text.vocab_size:
        raise ValueError(
            f"clip.custom.text.vocab_size is {text.vocab_size}; the tokenizer's ids go up to "
            f"{highest}, so it must be {len(tokenizer.vocab)}"
        )
    longest = max(map(len, ids))
    fitting = [length for length in _LENGTHS if length >= longest]
    if longest > text.context_length:
        cut = sum(len(each) > text.context_length for each in ids)
        _log.warning("%d texts have more than %d tokens and are cut", cut, text.context_length)
    return min([*fitting, text.context_length])


def _tokenizer(config: IqaRunConfig) -> ClipTokenizer:
    return ClipTokenizer.packaged(cleaning=config.data.cleaning)


def _tokens(config: IqaRunConfig, texts: Sequence[str] | np.ndarray, length: int) -> IndexedRows:
    distinct, rows = np.unique(np.asarray(texts, object), return_inverse=True)
    table = _tokenizer(config)(list(distinct), length=length).token_ids
    return IndexedRows(table, rows.astype(np.int32))


def _load(
    config: IqaRunConfig,
    table: RatedTable,
    name: str,
    length: int,
    report_dir: pathlib.Path | None,
) -> RatedImages:
    if table.embeddings is not None:
        return _rated(table, {"image_embedding": table.embeddings}, config, length)
    data, size = config.data, config.network.clip.vision.image_size
    fit: Fit = "center_crop" if data.official_preprocessing else "squash"
    whole = data.eval_size or size
    stored = (whole, whole)
    if name == "train" and config.augment.enabled:
        sizes = table.image_sizes(exif_orientation=data.exif_orientation)
        table = dataclasses.replace(table, sizes=sizes)
        # What is not larger is stored as it is, and cropped as the original crops it.
        largest, limit = sizes.max(axis=0), data.stored_size or round(size * 8 / 7)
        stored = max(1, min(limit, int(largest[0]))), max(1, min(limit, int(largest[1])))
        fit = "squash"
    listed = None if report_dir is None else report_dir / f"unreadable_{name}.csv"
    with Progress(f"decoding {name}", total=len(table), unit="images", last_line=False) as progress:
        decoded = decode_images(
            table,
            stored,
            fit=fit,
            exif_orientation=data.exif_orientation,
            cache_dir=data.cache_dir,
            on_unreadable=data.on_unreadable,
            unreadable_file=listed,
            num_threads=data.decode_workers,
            progress=progress,
        )
    if decoded.unreadable:
        first = decoded.unreadable[0]
        _log.warning(
            "%d of %d images of %s cannot be read and are left out; the first is %s: %s",
            *(len(decoded.unreadable), len(table), name, first.path, first.reason),
        )
    kept, images = decoded.data, decoded.images
    if kept.sizes is None and whole > size:
        start = (whole - size) // 2
        images = np.ascontiguousarray(images[:, start : start + size, start : start + size])
    arrays = {"image": images}
    if kept.sizes is not None:
        arrays["image_size"] = kept.sizes
    return _rated(kept, arrays, config, length, left_out=len(decoded.unreadable))


def _rated(
    table: RatedTable,
    images: dict[str, np.ndarray],
    config: IqaRunConfig,
    length: int,
    *,
    left_out: int = 0,
) -> RatedImages:
    """A split of images or their embeddings, and what the table says of them."""
    arrays: dict[str, np.ndarray | IndexedRows] = {
        **images,
        "tokens": _tokens(config, table.prompts, length),
        "quality": np.nan_to_num(table.quality),
        "consistency": np.nan_to_num(table.consistency),
    }
    texts = None
    if table.explanations is not None:
        texts = [text or "" for text in table.explanations]
        arrays["explanation_tokens"] = _tokens(config, texts, length)
        arrays["has_explanation"] = np.array([text != "" for text in texts], np.float32)
    generators = None if table.generators is None else [str(g) for g in table.generators]
    return RatedImages(arrays, list(table.paths), list(table.prompts), generators, texts, left_out)


def _embedded(config: IqaRunConfig, train: bool) -> dict[str, RatedImages]:
    data = config.data
    counts = {"train": data.embedded_train} if train else {}
    counts["val"] = data.embedded_val
    drawn = {
        name: draw_scenes(
            config.data_seed,
            np.arange(count),
            size=config.network.clip.vision.image_size,
            held_out=name == "val",
        )
        for name, count in counts.items()
    }
    length = _text_length(config, [text for scenes in drawn.values() for text in scenes.prompts])
    return {
        name: RatedImages(
            {
                "image": scenes.images,
                "tokens": _tokens(config, scenes.prompts, length),
                "quality": scenes.quality,
                "consistency": scenes.consistency,
            },
            [f"embedded/{name}/{i:06d}" for i in range(len(scenes.prompts))],
            scenes.prompts,
            scenes.kinds,
        )
        for name, scenes in drawn.items()
    }


def stand_in(config: IqaRunConfig) -> tuple[IqaRunConfig, int | None]:
    """A few embedded scenes and no weights, to plan with; and how many there will be.

    Raises:
      ValueError: the run trains on stored embeddings, whose width their file knows.
    """
    data = config.data
    if data.image_embeddings:
        raise ValueError(
            "data.image_embeddings trains on vectors whose width only their file says, so the run "
            "cannot be planned; plan one of images, with --data.no-image_embeddings"
        )
    made = data.embedded_train if data.path is None else None
    little = dataclasses.replace(data, path=None, embedded_train=16, embedded_val=16)
    clip = dataclasses.replace(config.clip, weights=None, from_scratch=True)
    return dataclasses.replace(config, clip=clip, data=little), made
