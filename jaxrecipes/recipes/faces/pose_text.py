"""Head poses as English phrases, and CLIP's features of the phrases.

The face networks may take their pose from CLIP's text tower instead of from three numbers. A pose
falls into one of 45 phrases, so a frozen tower is a table of 45 rows: it is computed once, and a
network looks up its row (`PoseText`).
"""

import itertools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax import numpy as jnp

from jaxrecipes.broadcasting import aligned
from jaxrecipes.losses.similarity import unit
from jaxrecipes.models.clip.config import ClipConfig
from jaxrecipes.models.clip.text import ClipText
from jaxrecipes.models.clip.tokenizer import ClipTokenizer

TURN_EDGES = (-45.0, -15.0, 15.0, 45.0)
GAZE_EDGES = (-20.0, 20.0)
UPRIGHT = 10.0

_TURNS = (
    "left profile view",
    "left three-quarter view",
    "frontal view",
    "right three-quarter view",
    "right profile view",
)
_GAZES = ("looking down", "level gaze", "looking up")
_TILTS = ("upright", "tilted right", "tilted left")

POSE_PHRASES: tuple[str, ...] = tuple(
    ", ".join(parts) for parts in itertools.product(_TURNS, _GAZES, _TILTS)
)
"""The 45 phrases, in the order that `pose_phrase_index` numbers them."""


def pose_phrase_index(pose: jax.Array) -> jax.Array:
    """The number of the phrase that describes a pose.

    Args:
      pose: `[..., 3]` degrees. The first entry chooses the view (edges at -45, -15, 15, 45), the
        second the gaze (at -20 and 20), each edge belonging to the bin above it; the third is
        upright below 10 in size, else tilted right where positive and left where negative.

    Returns:
      `[...]` int32 in 0..44, an index into `POSE_PHRASES`.

    Raises:
      ValueError: the last axis has not three entries.
    """
    if pose.shape[-1] != 3:
        raise ValueError(f"a pose has 3 entries, got the shape {pose.shape}")
    # By comparisons: a search would be a loop, which no ONNX file can hold.
    turn, gaze = (
        (pose[..., i, None] >= aligned(jnp.array(edges, pose.dtype), pose)).sum(-1, dtype=jnp.int32)
        for i, edges in enumerate((TURN_EDGES, GAZE_EDGES))
    )
    tilted = jnp.where(pose[..., 2] > 0, 1, 2)
    tilt = jnp.where(jnp.abs(pose[..., 2]) < UPRIGHT, 0, tilted)
    return ((turn * len(_GAZES) + gaze) * len(_TILTS) + tilt).astype(jnp.int32)


def pose_text_table(
    config: ClipConfig, params: Mapping[str, Any], *, tokenizer: ClipTokenizer | None = None
) -> np.ndarray:
    """CLIP's features of the 45 phrases.

    Args:
      config: the architecture, as `jaxrecipes.models.clip.weights.read_clip` gives it.
      params: of `Clip`; only the text tower's are used.
      tokenizer: by default CLIP's own.

    Returns:
      `[45, projection_dim]` float32 unit vectors, in the order of `POSE_PHRASES`.

    Raises:
      ValueError: the tower's vocabulary is smaller than the tokenizer's, or its context too short.
    """
    tokenizer = tokenizer or ClipTokenizer.packaged()
    if len(tokenizer.vocab) > config.text.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer.vocab)} ids, the text tower {config.text.vocab_size}"
        )
    longest = max(len(tokenizer.encode(phrase)) for phrase in POSE_PHRASES)
    token_ids = tokenizer(POSE_PHRASES, length=longest).token_ids
    tower = ClipText(config.text, config.projection_dim)
    features = jax.jit(tower.apply)({"params": params["text"]}, token_ids).features
    return np.asarray(unit(features))


class PoseText(nn.Module):
    """The row of the table for a pose. The table is no parameter: nothing trains it.

    It is the variable `table`, `[45, width]`, of `batch_stats`: a checkpoint holds it. It starts as
    zeros, for the caller to fill with `pose_text_table`.

    Attributes:
      width: numbers in CLIP's features.
    """

    width: int

    @nn.compact
    def __call__(self, pose: jax.Array) -> jax.Array:
        """Degrees `[..., 3]` to `[..., width]` float32."""
        shape = (len(POSE_PHRASES), self.width)
        table = self.variable("batch_stats", "table", jnp.zeros, shape, jnp.float32)
        return jnp.asarray(table.value)[pose_phrase_index(pose)]
