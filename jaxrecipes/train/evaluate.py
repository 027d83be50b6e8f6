"""A pass over a split in its fixed order: every example counts once, padding counts nowhere."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxrecipes.data.indexed import Arrays
from jaxrecipes.losses import composite_loss
from jaxrecipes.metrics import Mean
from jaxrecipes.sharding import replicated
from jaxrecipes.train.feed import fetch
from jaxrecipes.train.fsdp import with_gathered_params
from jaxrecipes.train.recipe import PassMetrics, Recipe


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Metrics of a pass, and the recipe's predictions as host arrays `[N, ...]` in the split's
    order.
    """

    metrics: dict[str, float]
    outputs: Any


class EvalProgram:
    """`run(params, ...)`: the recipe's metrics of some weights over a split.

    Args:
      recipe: what is evaluated.
      mesh: the devices.

    Attributes:
      num_compilations: how many times the program was traced; raw and averaged weights share one.
    """

    def __init__(self, recipe: Recipe, *, mesh: Mesh):
        self.num_compilations = 0
        apply_fn = with_gathered_params(recipe, mesh).apply_fn

        def run(params, batch_stats, hparams, loss_hparams, source, item, mask):
            self.num_compilations += 1
            batch = recipe.preprocess(fetch(source, item) | {"mask": mask})
            outputs, _ = apply_fn(
                params,
                batch_stats,
                recipe.inputs(batch),
                hparams=hparams,
                train=False,
                key=jax.random.key(0),
            )
            terms = recipe.loss_terms(outputs, batch, loss_hparams)
            _, log = composite_loss(terms, loss_hparams, mask=mask)
            # Each batch's means count by its number of real examples.
            weight = mask.sum()
            sums = {name: Mean(sum=value * weight, count=weight) for name, value in log.items()}
            sums |= recipe.metrics(outputs, batch, hparams)
            return sums, recipe.predictions(outputs, batch)

        self._run = jax.jit(run, out_shardings=replicated(mesh))

    def lower(
        self, params, batch_stats, hparams, loss_hparams, source, item, mask
    ) -> jax.stages.Lowered:
        """The program of one batch for such arguments (arrays or their shapes), not yet
        compiled.
        """
        return self._run.lower(params, batch_stats, hparams, loss_hparams, source, item, mask)

    def __call__(
        self,
        params,
        batch_stats,
        hparams,
        loss_hparams,
        source,
        batches,
        arrays: Arrays,
        *,
        pass_metrics: PassMetrics | None,
    ) -> Evaluation:
        """Evaluates one set of weights.

        Args:
          params: of the network, raw or averaged.
          batch_stats: that go with them.
          hparams: the hyperparameters in force, for the network and the metrics.
          loss_hparams: those of the loss; of the run's end where losses are to be compared over the
            run.
          source: the split's resident arrays, empty when it is streamed.
          batches: yields `(item, mask)`, the last one padded.
          arrays: the split's host arrays (labels ...), for metrics of the whole pass.
          pass_metrics: the recipe's.
        """
        results = jax.device_get(
            [
                self._run(params, batch_stats, hparams, loss_hparams, source, item, mask)
                for item, mask in batches
            ]
        )
        num_examples = len(next(iter(arrays.values())))  # what follows them is padding
        outputs = jax.tree.map(
            lambda *parts: np.concatenate(parts)[:num_examples],
            *[outputs for _, outputs in results],
        )
        sums = jax.tree.map(lambda *parts: np.sum(parts, axis=0), *[sums for sums, _ in results])
        metrics = compute_metrics(sums)
        if pass_metrics is not None:
            metrics |= pass_metrics(outputs, arrays)
        return Evaluation(metrics=metrics, outputs=outputs)


def compute_metrics(sums: Mapping[str, Any]) -> dict[str, float]:
    """`{name: metric}` as `{metric name: float}`; a metric that computes several names them
    itself.
    """
    values: dict[str, float] = {}
    for name, metric in sums.items():
        result = metric.compute()
        values |= result if isinstance(result, dict) else {name: result}
    return {name: float(value) for name, value in jax.device_get(values).items()}
