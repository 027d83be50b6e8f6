"""What the files of both original face programs share: their keys, and their CLIP pose encoders.

An original module `...pose_encoder` holds a frozen copy of CLIP (`clip_model.*`) and a projection
(`proj.0`, `proj.3`). All that matters of the copy is its features of 45 phrases: we keep those, and
write them into state dicts as `pose_text`, `[45, width]`. The original loads such a state dict with
`strict=False`, and then uses the CLIP that it loads itself.
"""

import dataclasses
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrecipes.convert.file_fields import Fields, given, telling
from jaxrecipes.convert.rules import described
from jaxrecipes.models.clip import weights as clip
from jaxrecipes.models.clip.config_files import from_shapes
from jaxrecipes.models.clip.rules import clean, find_layout
from jaxrecipes.recipes.faces.pose_text import pose_text_table

_log = logging.getLogger("jaxrecipes")

POSE_TABLE = "pose_text"
"""The name of a table within its encoder, in our state dicts."""

WITHOUT_CLIP = (
    "the file has no copy of CLIP (clip_model.*): the original loads its weights with "
    "strict=False, over those of the CLIP that it loads itself, and cannot resume its optimizer"
)
"""Logged when a network that encodes phrases is exported."""

_COPY, _PROJECTION = ".clip_model.", "pose_encoder.proj.0.weight"
_BUFFERS = ("pose_prototypes",)


def check_program(source: pathlib.Path, loaded: Any, program: str) -> None:
    """Raises a ValueError for a file without the keys that the face programs write."""
    if isinstance(loaded, dict) and {"model_state_dict", "args"} <= loaded.keys():
        return
    keys = [str(key)[:40] for key in loaded][:8] if isinstance(loaded, dict) else described(loaded)
    raise ValueError(
        f"{source} is no checkpoint of the {program} program: expected model_state_dict and "
        f"args among its keys, got {keys}"
    )


def with_text_width(config: Any, state_dict: Mapping[str, np.ndarray]) -> Any:
    """The config of a network that encodes phrases, with the width that the weights show.

    If the original could not load CLIP, it encoded the numbers of the pose in spite of its
    `use_clip_pose_encoder`, and the weights have no such encoder.
    """
    with telling("the width of the pose encoder"):
        widths = [np.shape(a)[1] for key, a in state_dict.items() if key.endswith(_PROJECTION)]
    if not widths:
        return dataclasses.replace(config, use_clip_pose_encoder=False)
    return dataclasses.replace(config, pose_text_dim=widths[0])


def tabulated(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state dict with a table in place of each copy of CLIP.

    The table is computed by that very copy, because the original's initialisation redraws most of
    its weights, differently in every block.

    Raises:
      ConversionError: a copy that is not complete.
    """
    copies: dict[str, dict[str, np.ndarray]] = {}
    kept: dict[str, np.ndarray] = {}
    for key, array in state_dict.items():
        encoder, found, name = key.partition(_COPY)
        if found:
            copies.setdefault(encoder, {})[name] = array
        else:
            kept[key] = array
    for encoder, copy in copies.items():
        if f"{encoder}.{POSE_TABLE}" not in kept:
            kept[f"{encoder}.{POSE_TABLE}"] = _table(copy)
    if copies:
        _log.info("copies of CLIP left out, their features of phrases kept: %d", len(copies))
    return kept


def numbered(
    optimizer_state: Mapping[str, Any] | None, state_dict: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """The optimizer's state without the numbers of the frozen copies, if it counts them.

    Args:
      optimizer_state: as torch has it.
      state_dict: of the original network, in its order.
    """
    if not given(optimizer_state) or not any(_COPY in key for key in state_dict):
        return optimizer_state
    groups = Fields(optimizer_state, "the optimizer's state").get("param_groups", list[dict])
    names = [key for key in state_dict if key not in _BUFFERS]
    if not groups:
        return optimizer_state
    numbers = Fields(groups[0], "the optimizer's parameter group").get("params", list)
    if len(groups) != 1 or len(numbers) != len(names):
        return optimizer_state
    pairs = zip(numbers, names, strict=True)
    group = {**groups[0], "params": [number for number, name in pairs if _COPY not in name]}
    return {**optimizer_state, "param_groups": [group]}


def _table(copy: Mapping[str, np.ndarray]) -> np.ndarray:
    copy = clean(copy)
    with telling("the size of the copy of CLIP"):
        config = from_shapes(copy, find_layout(copy))
    _, params, _ = clip.from_torch(copy, config)
    return pose_text_table(config, params)
