"""The table of CLIP's features that the pose encoders of the face recipes look up."""

import functools
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from jaxrecipes.models.clip.weights import SOURCES, read_clip_tower
from jaxrecipes.paths import user_path
from jaxrecipes.recipes.faces.pose_text import pose_text_table

FROM_CHECKPOINT = "checkpoint"
"""`pose_text_clip` of a run whose checkpoint holds the table already."""


def check_clip(clip: str | None) -> None:
    """Raises where the CLIP that the pose encoder wants is not there.

    Raises:
      ValueError: none is named.
      FileNotFoundError: it does not exist. Both say where such weights come from.
    """
    if clip is None:
        raise ValueError(
            "model.use_clip_pose_encoder needs a CLIP, such as ViT-B/32: give its folder or file "
            f"as --pose_text_clip, or --model.no_use_clip_pose_encoder. {SOURCES}"
        )
    if clip != FROM_CHECKPOINT and not user_path(clip).exists():
        raise FileNotFoundError(
            f"no CLIP at {clip} (pose_text_clip); a run that goes on from a checkpoint does not "
            f"need it: give --pose_text_clip {FROM_CHECKPOINT} --allow_config_change. {SOURCES}"
        )


def read_table(clip: str | None, width: int) -> np.ndarray | None:
    """CLIP's features of the 45 phrases, `[45, width]`; None where there is no file to read.

    Raises:
      ValueError: its features have another size than `width` (the model's `pose_text_dim`).
      FileNotFoundError, ConversionError: as `read_clip_tower`.
    """
    if clip in (None, FROM_CHECKPOINT):
        return None
    table = _table(os.path.abspath(user_path(clip)))
    if table.shape[1] != width:
        raise ValueError(
            f"the features of {clip} have {table.shape[1]} numbers, model.pose_text_dim is "
            f"{width}; give --model.pose_text_dim {table.shape[1]}"
        )
    return table


def with_table(batch_stats: Mapping[str, Any], table: np.ndarray | None) -> Any:
    """`batch_stats` whose encoders of phrases have this table.

    Without one their shapes are right, but the program that makes the values fails: such variables
    are to be restored, or taken from another run.
    """

    def filled(path: Any, leaf: jax.Array) -> jax.Array:
        if not _is_table(path):
            return leaf
        if table is None:
            return jax.pure_callback(_fail, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
        return jnp.asarray(table)

    return jax.tree_util.tree_map_with_path(filled, batch_stats)


def without_table(params: Any, batch_stats: Any) -> tuple[Any, Any]:
    """The `Recipe.pretrained` of a network whose table is not at hand: a new run wants it.

    Raises:
      ValueError: there is a table among the shapes; the message says how to bring a CLIP.
    """
    del params
    if any(_is_table(path) for path, _ in jax.tree.leaves_with_path(batch_stats)):
        _fail()
    return {}, {}


def _is_table(path: Any) -> bool:
    return [str(key.key) for key in path[-2:]] == ["pose_text", "table"]


@functools.lru_cache(maxsize=1)  # the trials of a search share it
def _table(clip: str) -> np.ndarray:
    return pose_text_table(*read_clip_tower(clip, "text"))


def _fail() -> np.ndarray:
    raise ValueError(
        "there is no checkpoint to go on from; a new run with model.use_clip_pose_encoder reads a "
        f"CLIP: give its folder or file as --pose_text_clip. {SOURCES}"
    )
