"""A recipe in one file: fit a curve to samples of which some are far off.

It begins with the squared error, which learns quickly, and goes over to the absolute error, which
outliers hardly pull at.

  jaxrecipes train --config examples/noisy_curve.py --workdir runs/curve

docs/tutorial.md explains every part.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipes.fields import Checked, Count, Hparam, NonNegative, Share, hparam
from jaxrecipes.metrics import Mean
from jaxrecipes.nn import dropout
from jaxrecipes.train import DataInfo, Recipe
from jaxrecipes.train.config import DataConfig, OptimConfig, RunConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig(Checked):
    """Weights of the loss's terms."""

    squared: Hparam[NonNegative] = hparam("cosine(1, steps=run)", name="loss_weight/squared")
    """Weight of the squared error."""
    absolute: Hparam[NonNegative] = hparam("linear(0, 1, steps=run)", name="loss_weight/absolute")
    """Weight of the absolute error."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """A curve y(x) on [-1, 1]."""

    epochs: Count = 20
    data: DataConfig = dataclasses.field(default_factory=lambda: DataConfig(batch_size=32))
    optim: OptimConfig = dataclasses.field(default_factory=lambda: OptimConfig(learning_rate=0.01))
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    width: Count = 32
    """Of the network's hidden layers."""
    dropout: Hparam[Share] = hparam(0.05, name="dropout_rate", search=(0.0, 0.3))
    """Dropout rate after each of them."""


class Curve(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, dropout_rate: Any = 0.0) -> jax.Array:
        for _ in range(2):
            x = nn.tanh(nn.Dense(self.width)(x))
            if train:
                x = dropout(self.make_rng("dropout"), x, dropout_rate)
        return nn.Dense(1)(x)[:, 0]


def load_data(config: Config) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(config.data_seed)
    splits = {}
    for name, count in {"train": 512, "val": 128}.items():
        x = rng.uniform(-1.0, 1.0, (count, 1))
        y = np.sin(4.0 * x[:, 0]) + rng.normal(0.0, 0.05, count)
        y[rng.random(count) < 0.1] += 2.0  # outliers
        splits[name] = {"x": x, "y": y}
    return splits


def make_recipe(config: Config, data: DataInfo) -> Recipe:
    def loss_terms(y: jax.Array, batch: Any, hparams: Any) -> dict[str, jax.Array]:
        error = y - batch["y"]
        return {"squared": error**2, "absolute": jnp.abs(error)}

    def metrics(y: jax.Array, batch: Any, hparams: Any) -> dict[str, Any]:
        off = jnp.abs(y - jnp.sin(4.0 * batch["x"][:, 0]))
        return {"distance": Mean.from_values(off, batch.get("mask"))}

    return Recipe.from_linen(
        Curve(config.width),
        config,
        data,
        inputs=lambda batch: batch["x"],
        loss_terms=loss_terms,
        metrics=metrics,
    )
