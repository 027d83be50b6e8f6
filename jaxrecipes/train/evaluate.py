"""Evaluation: one pass over a split in its fixed order. Every example counts once, and padding does
not count.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxrecipes.data.feed import fetch
from jaxrecipes.losses import composite_loss
from jaxrecipes.metrics import Mean
from jaxrecipes.schedules import constant
from jaxrecipes.sharding import replicated
from jaxrecipes.train.apply_fn import apply_on
from jaxrecipes.train.recipe import PassMetrics, Recipe
from jaxrecipes.train.run_data import Split
from jaxrecipes.train.state import TrainState
from jaxrecipes.train.step import current_hparams, used_hparams

_WEIGHT = "loss_weight/"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Metrics of a pass, and the recipe's predictions as host arrays `[N, ...]` in the split's
    order.
    """

    metrics: dict[str, float]
    outputs: Any


class EvalProgram:
    """The compiled evaluation of a recipe on a mesh; raw and averaged weights share it.

    Attributes:
      num_compilations: how many times the program was traced.
    """

    def __init__(self, recipe: Recipe, *, mesh: Mesh):
        self.num_compilations = 0
        apply_fn = apply_on(mesh, recipe.apply_fn, attention=recipe.attention)

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
            # Weight each batch's means by its number of real examples.
            weight = mask.sum()
            sums = {name: Mean(sum=value * weight, count=weight) for name, value in log.items()}
            sums |= recipe.metrics(outputs, batch, hparams)
            return sums, recipe.predictions(outputs, batch)

        self._run = jax.jit(run, out_shardings=replicated(mesh))

    def __call__(
        self,
        params: Any,
        batch_stats: Any,
        split: Split,
        *,
        hparams: Any,
        loss_hparams: Any,
        pass_metrics: PassMetrics | None,
        rows: np.ndarray | None = None,
    ) -> Evaluation:
        """Evaluates one set of weights, raw or averaged.

        Args:
          params: of the network.
          batch_stats: that go with them.
          split: the examples.
          hparams: the hyperparameters in force, for the network and the metrics.
          loss_hparams: those of the loss; where losses are compared over a run, those at its end.
          pass_metrics: the recipe's.
          rows: which examples; None: all.
        """
        items = split.feed.evaluation_items(split.batch_size, rows)
        source = split.feed.source
        results = jax.device_get(
            [
                self._run(params, batch_stats, hparams, loss_hparams, source, item, mask)
                for item, mask in items
            ]
        )
        arrays = split.arrays
        if rows is not None:
            arrays = {name: array[rows] for name, array in arrays.items()}
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


def validate(
    recipe: Recipe,
    program: EvalProgram,
    state: TrainState,
    split: Split,
    *,
    last_step: int,
    rows: np.ndarray | None = None,
) -> tuple[dict[str, float], Evaluation]:
    """Metrics of a state's raw weights and, with EMA, of the averaged ones (`NAME_ema`); and the
    pass over the weights that the run is judged by.

    Args:
      recipe: what is evaluated.
      program: its evaluation.
      state: after a step; the hyperparameters of that step are used.
      split: the examples.
      last_step: of the run. `loss` uses the loss weights of this step, so that it can be compared
        over a run whose weights change: as a weight rises the weighted sum rises too, even if every
        term falls. The sum under the current weights is logged as `loss_now`.
      rows: which examples; None: all.
    """
    hparams = used_hparams(recipe, state)
    loss_hparams = current_hparams(recipe, state, step=last_step)

    def run(params: Any, batch_stats: Any) -> tuple[dict[str, float], Evaluation]:
        result = program(
            params,
            batch_stats,
            split,
            hparams=hparams,
            loss_hparams=loss_hparams,
            pass_metrics=recipe.pass_metrics,
            rows=rows,
        )
        now = {"loss_now": _weighed(result.metrics, hparams)} if _weights_move(recipe) else {}
        return result.metrics | now, result

    metrics, result = run(state.params, state.batch_stats)
    if recipe.ema:
        averaged, result = run(state.ema_params, state.ema_batch_stats)
        metrics |= {f"{name}_ema": value for name, value in averaged.items()}
    return metrics, result


def training_metrics(
    recipe: Recipe, state: TrainState, sums: Mapping[str, Any], *, last_step: int
) -> dict[str, float]:
    """Metrics of the training steps that `sums` adds up. `loss` is weighted as in `validate`; what
    the steps minimised is `loss_now`.
    """
    metrics = compute_metrics(jax.device_get(sums))
    if not _weights_move(recipe):
        return metrics
    end = current_hparams(recipe, state, step=last_step)
    return metrics | {"loss": _weighed(metrics, end), "loss_now": metrics["loss"]}


def compute_metrics(sums: Mapping[str, Any]) -> dict[str, float]:
    """`{name: metric}` as `{metric name: float}`; a metric that computes several values names them
    itself.
    """
    values: dict[str, float] = {}
    for name, metric in sums.items():
        result = metric.compute()
        values |= result if isinstance(result, dict) else {name: result}
    return {name: float(value) for name, value in jax.device_get(values).items()}


def _weights_move(recipe: Recipe) -> bool:
    """Whether a loss weight follows a schedule, or is learned."""
    if recipe.loss_weighting is not None:
        return True
    hparams = recipe.hparams.items()
    return any(name.startswith(_WEIGHT) and s.kind is not constant for name, s in hparams)


def _weighed(metrics: Mapping[str, float], hparams: Mapping[str, Any]) -> float:
    terms = {
        f"loss/{name.removeprefix(_WEIGHT)}": weight
        for name, weight in hparams.items()
        if name.startswith(_WEIGHT)
    }
    return sum(float(weight) * metrics[term] for term, weight in terms.items() if term in metrics)
