"""Validation of a training state: the raw weights, and the averaged ones beside them."""

from typing import Any

import numpy as np

from jaxrecipes.train.comparable import with_loss_now
from jaxrecipes.train.evaluate import EvalProgram, Evaluation
from jaxrecipes.train.recipe import Recipe
from jaxrecipes.train.run_data import Split
from jaxrecipes.train.state import TrainState
from jaxrecipes.train.step import current_hparams, used_hparams


class Validator:
    """`validate(state, split)`: metrics of the raw weights, and with EMA of the averaged ones too
    (`NAME_ema`), and the pass that counts.

    Args:
      recipe: what is evaluated.
      program: its evaluation.
      last_step: the run's last step; losses are those of its hyperparameters (see `comparable`).
    """

    def __init__(self, recipe: Recipe, program: EvalProgram, *, last_step: int):
        self._recipe, self._program, self._last_step = recipe, program, last_step

    @property
    def num_compilations(self) -> int:
        """How many times the evaluation program was traced."""
        return self._program.num_compilations

    def __call__(
        self, state: TrainState, split: Split, *, rows: np.ndarray | None = None
    ) -> tuple[dict[str, float], Evaluation]:
        """Of the examples `rows`, or of all."""
        hparams = used_hparams(self._recipe, state)
        loss_hparams = current_hparams(self._recipe, state, step=self._last_step)
        arrays = split.arrays
        if rows is not None:
            arrays = {name: array[rows] for name, array in arrays.items()}

        def run(params: Any, batch_stats: Any) -> Evaluation:
            items = split.feed.evaluation_items(split.batch_size, rows)
            return self._program(
                *(params, batch_stats, hparams, loss_hparams, split.feed.source, items, arrays),
                pass_metrics=self._recipe.pass_metrics,
            )

        result = run(state.params, state.batch_stats)
        metrics = with_loss_now(result.metrics, self._recipe, hparams)
        if self._recipe.ema:
            result = run(state.ema_params, state.ema_batch_stats)
            averaged = with_loss_now(result.metrics, self._recipe, hparams)
            metrics |= {f"{name}_ema": value for name, value in averaged.items()}
        return metrics, result
