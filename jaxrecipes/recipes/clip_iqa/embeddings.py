"""What frozen towers give, computed once in place of every step."""

import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxrecipes.data.augment import normalize
from jaxrecipes.data.indexed import Arrays, IndexedRows
from jaxrecipes.losses.similarity import unit
from jaxrecipes.models.clip import IMAGE_MEAN, IMAGE_STD, ClipText, ClipVision
from jaxrecipes.precision import Policy
from jaxrecipes.recipes.clip_iqa.config import IqaRunConfig
from jaxrecipes.recipes.clip_iqa.pretrained import read_weights

_log = logging.getLogger("jaxrecipes")


def cacheable(config: IqaRunConfig) -> tuple[str, ...]:
    """What stands in for the inputs of a run: `image_embedding`, `text_embedding`.

    The towers must be frozen from the weights that the config names on, and an image must look the
    same every time.
    """
    started_elsewhere = getattr(config, "init_from", None) is not None
    if config.freeze.mode != "clip" or config.clip.weights is None or started_elsewhere:
        return ()
    return ("text_embedding",) if config.augment.enabled else ("image_embedding", "text_embedding")


def with_embeddings(config: IqaRunConfig, arrays: Arrays, params: dict[str, Any]) -> Arrays:
    """Arrays of a split in which embeddings stand in for images and tokens, as far as they can.

    Args:
      config: freezing, augmentation, precision and batch size.
      arrays: `image` uint8 `[N, S, S, 3]` and `tokens`, an `IndexedRows` of the distinct prompts.
      params: of CLIP.
    """
    found = dict(arrays)
    clip, dtype = config.network.clip, Policy(config.precision).compute_dtype
    names = cacheable(config)
    if "text_embedding" in names:
        text = ClipText(clip.text, clip.projection_dim, dtype)
        tokens = found.pop("tokens")
        assert isinstance(tokens, IndexedRows)
        table = _embed(
            lambda p, rows: text.apply({"params": p}, rows),
            params["text"],
            tokens.table,
            config.data.eval_batch_size,
        )
        found["text_embedding"] = IndexedRows(table, tokens.rows)
        _log.info("%d prompts of %d images embedded once", len(table), len(tokens))
    if "image_embedding" in names:
        vision = ClipVision(clip.vision, clip.projection_dim, dtype)
        found["image_embedding"] = _embed(
            lambda p, x: vision.apply({"params": p}, normalize(x, IMAGE_MEAN, IMAGE_STD)),
            params["vision"],
            found.pop("image"),
            config.data.eval_batch_size,
        )
        _log.info("%d images embedded once", len(found["image_embedding"]))
    return found


def clip_params(config: IqaRunConfig) -> dict[str, Any] | None:
    """CLIP's parameters where embeddings can be computed ahead, else None."""
    return read_weights(config.clip) if cacheable(config) else None


def _embed(apply: Callable[[Any, Any], Any], params: Any, rows: Any, batch_size: int) -> np.ndarray:
    program = jax.jit(lambda params, rows: unit(apply(params, rows).features))
    params = jax.device_put(params)
    parts = []
    for start in range(0, len(rows), batch_size):
        part = np.asarray(rows[start : start + batch_size])
        filled = np.pad(part, [(0, batch_size - len(part)), *[(0, 0)] * (part.ndim - 1)], "edge")
        parts.append(np.asarray(program(params, filled))[: len(part)])
    return np.concatenate(parts)
