"""Weights of CLIP that a run starts from."""

import dataclasses
from typing import Any

from jaxrecipes.models.clip.config import ClipConfig
from jaxrecipes.models.clip.network import PUBLISHED, resize_positions
from jaxrecipes.models.clip.weights import SOURCES, read_clip
from jaxrecipes.paths import user_path
from jaxrecipes.recipes.clip_iqa.config import SIZES, ClipSource
from jaxrecipes.train.recipe import Pretrained


def check_weights(source: ClipSource, *, start_elsewhere: bool) -> None:
    """Raises where weights of CLIP are wanted and not there; it says where such weights come from.

    Args:
      source: the CLIP.
      start_elsewhere: whether another run's weights are what the run starts from.

    Raises:
      ValueError: a published size that would start from nothing, and no word that this is meant.
      FileNotFoundError: the weights that it names do not exist.
    """
    if source.weights is not None:
        weights = user_path(source.weights)
        if not (weights.is_file() or weights.is_dir()):
            read_clip(source.weights)
    elif source.size != "custom" and not (source.from_scratch or start_elsewhere):
        raise ValueError(
            f"clip.size is {source.size!r} and clip.weights None, so that a CLIP which takes "
            "hundreds of millions of images would learn from nothing: give its folder or file as "
            f"--clip.weights, or --clip.from_scratch if that is meant. {SOURCES}"
        )


def read_weights(source: ClipSource) -> dict[str, Any]:
    """The parameters of `source.weights` as `source.architecture` has them, float32 arrays.

    Raises:
      ValueError: they are of another architecture; names its size where it is a published one.
      FileNotFoundError, ConversionError: as `read_clip`.
    """
    assert source.weights is not None
    wanted = source.original
    config, params = read_clip(
        source.weights,
        activation=wanted.vision.activation,
        num_heads=(wanted.vision.num_heads, wanted.text.num_heads),
    )
    # How a text's end is found is no matter of the weights.
    text = dataclasses.replace(config.text, end_token_id=wanted.text.end_token_id)
    if dataclasses.replace(config, text=text) != wanted:
        raise ValueError(
            f"{source.weights} is a CLIP of another size than clip.size {source.size!r}; "
            f"{_advice(config)}"
        )
    grid = source.architecture.vision.grid
    if grid != config.vision.grid:
        params["vision"] = resize_positions(params["vision"], grid)
    return params


def pretrained(source: ClipSource) -> Pretrained | None:
    """What a run of the recipe starts from; None where all is drawn."""
    if source.weights is None:
        return None

    def read(params: Any, batch_stats: Any) -> tuple[Any, Any]:
        del params, batch_stats
        return {"clip": read_weights(source)}, {}

    return read


def _advice(config: ClipConfig) -> str:
    for name, published in SIZES.items():
        vision, text = PUBLISHED[published].vision, PUBLISHED[published].text
        sizes = (vision.width, vision.depth, vision.patch_size, vision.image_size, text.width)
        own = config.vision
        if sizes == (own.width, own.depth, own.patch_size, own.image_size, config.text.width):
            return f"give --clip.size {name}"
    return f"give --clip.size custom and in --clip.custom its {config}"
