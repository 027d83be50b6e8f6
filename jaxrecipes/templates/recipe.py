"""A recipe in one file: it tells which of two rings a point lies on.

Train it with `jaxrecipes train --config recipe.py --workdir runs/recipe`.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jaxrecipes.fields import Count, Hparam, NonNegative, hparam
from jaxrecipes.losses import bce_with_logits
from jaxrecipes.metrics import BinaryCounts
from jaxrecipes.train import DataInfo, Recipe
from jaxrecipes.train.config import DataConfig, OptimConfig, RunConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Every field is a flag: --width 64, --optim.learning_rate 3e-3 ..."""

    epochs: Count = 10
    data: DataConfig = dataclasses.field(default_factory=lambda: DataConfig(batch_size=64))
    optim: OptimConfig = dataclasses.field(default_factory=lambda: OptimConfig(learning_rate=0.01))
    width: Count = 32
    """Of the network's hidden layers."""
    bce_weight: Hparam[NonNegative] = hparam(1.0, name="loss_weight/bce")
    """Weight of the loss's one term."""


class Network(nn.Module):
    """A logit for each point."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(2):
            x = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(1)(x)[:, 0]


def load_data(config: Config) -> dict[str, dict[str, np.ndarray]]:
    """Splits of arrays [N, ...]: `train`, and `val` and `test` if there are any."""
    rng = np.random.default_rng(config.data_seed)

    def rings(count: int) -> dict[str, np.ndarray]:
        label = rng.integers(0, 2, count)
        radius = 1.0 + label + rng.normal(0.0, 0.2, count)
        angle = rng.uniform(0.0, 2.0 * np.pi, count)
        points = radius * np.stack([np.cos(angle), np.sin(angle)])
        return {"x": points.T, "label": label}

    return {"train": rings(2048), "val": rings(512)}


def make_recipe(config: Config, data: DataInfo) -> Recipe:
    """What the training step does with a batch."""

    def loss_terms(logits: jax.Array, batch: Any, hparams: Any) -> dict[str, jax.Array]:
        return {"bce": bce_with_logits(logits, batch["label"].astype(logits.dtype))}

    def metrics(logits: jax.Array, batch: Any, hparams: Any) -> dict[str, Any]:
        probs, mask = jax.nn.sigmoid(logits), batch.get("mask")  # in evaluation: 1 = counts
        return {"classification": BinaryCounts.from_probs(probs, batch["label"], mask)}

    return Recipe.from_linen(
        Network(config.width),
        config,
        data,
        inputs=lambda batch: batch["x"],
        loss_terms=loss_terms,
        metrics=metrics,
    )
