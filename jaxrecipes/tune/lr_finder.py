"""The learning-rate range test: train while the rate grows, and see where the loss falls fastest.

Source: Smith, "Cyclical Learning Rates for Training Neural Networks", 2017; the smoothing, the stop
and the suggestion are those of the original's finder.
"""

import dataclasses
import shlex
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipes import schedules
from jaxrecipes.bounds import bounds_of, wrong
from jaxrecipes.data.feed import Feed, fetch
from jaxrecipes.fields import Positive
from jaxrecipes.train.recipe import Recipe
from jaxrecipes.train.state import TrainState
from jaxrecipes.train.step import make_train_step

_SMOOTHING = 0.05
_DIVERGED_AT = 5.0
_SKIP_START, _SKIP_END = 10, 5


@dataclasses.dataclass(frozen=True)
class RangeTest:
    """What the test saw.

    Attributes:
      learning_rates: `[T]` rates that were tried, ascending.
      losses: `[T]` loss of each step.
      smoothed_losses: `[T]` their exponential average.
      suggestion: the rate where the smoothed loss falls fastest; None when the test stopped too
        early to tell.
    """

    learning_rates: np.ndarray
    losses: np.ndarray
    smoothed_losses: np.ndarray
    suggestion: float | None

    @property
    def lowest_loss_rate(self) -> float:
        """The rate with the lowest smoothed loss; a tenth of it is a cautious choice where the
        curve is noisy.
        """
        return float(self.learning_rates[int(np.argmin(self.smoothed_losses))])


def find_learning_rate(
    recipe: Recipe,
    state: TrainState,
    feed: Feed,
    *,
    start_rate: float = 1e-7,
    end_rate: float = 1.0,
    num_steps: int = 100,
) -> RangeTest:
    """Trains from `state`, which stays as it is, while the rate grows from `start_rate` to
    `end_rate`.

    The whole test is one compiled program: a loop of steps that ends when the smoothed loss exceeds
    five times the best, or is not finite.

    Args:
      recipe: what is trained; its plateau plays no part.
      state: where to start.
      feed: training data with at least `num_steps` steps in a call.
      start_rate: of the first step; it grows by a constant factor.
      end_rate: of the last step.
      num_steps: steps of the test.

    Raises:
      ValueError: rates that do not grow from above 0, or too few steps for a suggestion.
    """
    check_rates(start_rate, end_rate)
    if num_steps <= _SKIP_START + _SKIP_END + 1:
        raise ValueError(
            f"num_steps is {num_steps}; expected at least {_SKIP_START + _SKIP_END + 2}"
        )
    growth = (end_rate / start_rate) ** (1 / (num_steps - 1))
    rate = schedules.exponential(start_rate, gamma=growth)
    # The step counts from 0, whatever the state's own step is, so that the rate starts at its
    # start.
    state = state.replace(step=jnp.int32(0), hparams=dict(state.hparams) | {"learning_rate": rate})
    if recipe.plateau is not None:
        base = jnp.float32(1.0)
        state = state.replace(
            plateau=dataclasses.replace(state.plateau, learning_rate=base, base_learning_rate=base)
        )
    state = jax.tree.map(jnp.asarray, state)
    losses = np.asarray(
        _run(recipe, state, feed.source, feed.training_items(0, num_steps), num_steps)
    )
    return range_test(losses, start_rate=start_rate, end_rate=end_rate, num_steps=num_steps)


def check_rates(start_rate: float, end_rate: float) -> None:
    """Raises a ValueError unless these are learning rates, the first below the second."""
    for name, value in (("start_rate", start_rate), ("end_rate", end_rate)):
        if problem := wrong(value, bounds_of(Positive), name):
            raise ValueError(f"{name} {problem}")
    if start_rate >= end_rate:
        raise ValueError(f"expected start_rate < end_rate, got {start_rate} and {end_rate}")


def _run(recipe: Recipe, state: TrainState, source: Any, items: Any, num_steps: int) -> jax.Array:
    """`[num_steps]` losses; those after the stop are NaN."""
    train_step = make_train_step(recipe)

    def keep_going(carry):
        i, _, _, smoothed, best = carry
        return (i < num_steps) & (smoothed <= _DIVERGED_AT * best)  # false for NaN

    def body(carry):
        i, state, losses, smoothed, best = carry
        state, metrics = train_step(state, fetch(source, jax.tree.map(lambda x: x[i], items)))
        loss = metrics.log["loss"]
        smoothed = jnp.where(i == 0, loss, _SMOOTHING * loss + (1 - _SMOOTHING) * smoothed)
        return i + 1, state, losses.at[i].set(loss), smoothed, jnp.minimum(best, smoothed)

    def test(state, source, items):
        zero, infinite = jnp.float32(0.0), jnp.float32(jnp.inf)
        empty = jnp.full((num_steps,), jnp.nan, jnp.float32)
        return jax.lax.while_loop(keep_going, body, (jnp.int32(0), state, empty, zero, infinite))[2]

    return jax.jit(test)(state, source, items)


def range_test(
    losses: np.ndarray, *, start_rate: float, end_rate: float, num_steps: int
) -> RangeTest:
    """The test's result from the losses of its steps, up to the first that is not finite or that
    stops it.

    Raises:
      ValueError: the first loss is not finite.
    """
    smoothed: list[float] = []
    for loss in losses:
        if not np.isfinite(loss):
            break
        smoothed.append(
            loss if not smoothed else _SMOOTHING * loss + (1 - _SMOOTHING) * smoothed[-1]
        )
        if smoothed[-1] > _DIVERGED_AT * min(smoothed):
            break
    count = len(smoothed)
    if not count:
        raise ValueError(
            f"the loss of the first step is {losses[0]}, before any rate can matter: look for "
            "numbers in the data, the weights or the config that are not finite"
        )
    rates = start_rate * (end_rate / start_rate) ** (np.arange(count) / (num_steps - 1))
    trimmed = np.asarray(smoothed[_SKIP_START : max(_SKIP_START, count - _SKIP_END)])
    suggestion = None
    if len(trimmed) >= 2:
        suggestion = float(rates[_SKIP_START + int(np.argmin(np.gradient(trimmed)))])
    return RangeTest(
        rates, np.asarray(losses[:count], np.float64), np.asarray(smoothed), suggestion
    )


def train_command(test: RangeTest, *words: str) -> str:
    """The command that trains with the suggestion: `words` are the config and its flags; "" without
    a suggestion.
    """
    if test.suggestion is None:
        return ""
    rate = f"{test.suggestion:.3g}"
    return shlex.join(["jaxrecipes", "train", *words, "--optim.learning_rate", rate])
