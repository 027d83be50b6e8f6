"""The outputs of frozen towers, computed once instead of in every step."""

import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxrecipes.data.augment.images import normalize
from jaxrecipes.data.indexed_rows import Arrays, IndexedRows
from jaxrecipes.losses.similarity import unit
from jaxrecipes.models.clip.network import IMAGE_MEAN, IMAGE_STD, ClipText, ClipVision
from jaxrecipes.precision import Policy
from jaxrecipes.recipes.clip_iqa.config import IqaRunConfig
from jaxrecipes.recipes.clip_iqa.pretrained import read_weights

_log = logging.getLogger("jaxrecipes")


def cacheable(config: IqaRunConfig) -> tuple[str, ...]:
    """What stands in for the inputs of a run: `image_embedding`, `text_embedding`, `text_pooled`.

    The towers must be frozen from the weights that the config names on, and an image must look the
    same every time. Of a text tower all of whose layers are frozen, but not its final norm and
    projection, `text_pooled` is what these are given.
    """
    freeze, elsewhere = config.freeze, (config.init_from, config.first_stage)
    if config.clip.weights is None or elsewhere != (None, None):
        return ()
    fewest = min(freeze.plan.values(), default=freeze.layers)
    if freeze.mode == "partial" and fewest >= config.network.clip.text.depth:
        return ("text_pooled",)
    if freeze.mode != "clip":
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
    batch_size = config.data.eval_batch_size
    if {"text_embedding", "text_pooled"} & set(names):
        text = ClipText(clip.text, clip.projection_dim, dtype)
        tokens = found.pop("tokens")
        assert isinstance(tokens, IndexedRows)

        def apply_text(params, rows):
            return text.apply({"params": params}, rows)

        if "text_pooled" in names:
            without = _without_final_norm(params["text"])
            table = _embed(apply_text, without, tokens.table, batch_size, give=_pooled)
            found["text_pooled"] = IndexedRows(table, tokens.rows)
        else:
            table = _embed(apply_text, params["text"], tokens.table, batch_size)
            found["text_embedding"] = IndexedRows(table, tokens.rows)
        _log.info("%d prompts of %d images embedded once", len(table), len(tokens))
    if "image_embedding" in names:
        vision = ClipVision(clip.vision, clip.projection_dim, dtype)
        found["image_embedding"] = _embed(
            lambda p, x: vision.apply({"params": p}, normalize(x, IMAGE_MEAN, IMAGE_STD)),
            params["vision"],
            found.pop("image"),
            batch_size,
        )
        _log.info("%d images embedded once", len(found["image_embedding"]))
    return found


def clip_params(config: IqaRunConfig) -> dict[str, Any] | None:
    """CLIP's parameters where embeddings can be computed ahead, else None."""
    return read_weights(config.clip) if cacheable(config) else None


def _features(output: Any) -> jax.Array:
    return unit(output.features)


def _pooled(output: Any) -> jax.Array:
    return output.pooled


def _without_final_norm(text: dict[str, Any]) -> dict[str, Any]:
    """The text tower with a final norm that neither scales nor shifts."""
    norm = text["final_norm"]
    return text | {
        "final_norm": {"scale": np.ones_like(norm["scale"]), "bias": np.zeros_like(norm["bias"])}
    }


def _embed(
    apply: Callable[[Any, Any], Any],
    params: Any,
    rows: Any,
    batch_size: int,
    *,
    give: Callable[[Any], jax.Array] = _features,
) -> np.ndarray:
    program = jax.jit(lambda params, rows: give(apply(params, rows)))
    params = jax.device_put(params)
    parts = []
    for start in range(0, len(rows), batch_size):
        part = np.asarray(rows[start : start + batch_size])
        filled = np.pad(part, [(0, batch_size - len(part)), *[(0, 0)] * (part.ndim - 1)], "edge")
        parts.append(np.asarray(program(params, filled))[: len(part)])
    return np.concatenate(parts)
