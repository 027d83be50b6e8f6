"""Validation of a training state: the raw weights, and the averaged ones beside them."""

from typing import Any

import numpy as np

from jaxrecipes.train.evaluate import EvalProgram, Evaluation
from jaxrecipes.train.recipe import Recipe
from jaxrecipes.train.run_data import Split
from jaxrecipes.train.state import TrainState
from jaxrecipes.train.step import current_hparams


class Validator:
    """`validate(state, split)`: metrics of the raw weights, and with EMA of the averaged ones too
    (`NAME_ema`), and the pass that counts.
    """

    def __init__(self, recipe: Recipe, program: EvalProgram):
        self._recipe, self._program = recipe, program

    @property
    def num_compilations(self) -> int:
        """How many times the evaluation program was traced."""
        return self._program.num_compilations

    def __call__(
        self, state: TrainState, split: Split, *, rows: np.ndarray | None = None
    ) -> tuple[dict[str, float], Evaluation]:
        """Of the examples `rows`, or of all."""
        hparams = current_hparams(self._recipe, state)
        arrays = split.arrays
        if rows is not None:
            arrays = {name: array[rows] for name, array in arrays.items()}

        def run(params: Any, batch_stats: Any) -> Evaluation:
            items = split.feed.evaluation_items(split.batch_size, rows)
            return self._program(
                *(params, batch_stats, hparams, split.feed.source, items, arrays),
                pass_metrics=self._recipe.pass_metrics,
            )

        result = run(state.params, state.batch_stats)
        metrics = dict(result.metrics)
        if self._recipe.ema:
            result = run(state.ema_params, state.ema_batch_stats)
            metrics |= {f"{name}_ema": value for name, value in result.metrics.items()}
        return metrics, result
