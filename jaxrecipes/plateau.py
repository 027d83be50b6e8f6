"""ReduceLROnPlateau and EarlyStopping as pure functions over explicit state, called once per
validation.

The descriptions are frozen; their numbers are pytree leaves, so that a population with different
factors or patiences runs under one `vmap`. The states hold only float32 and int32 arrays.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from jaxrecipes.fields import CountOrZero, Fraction, NonNegative, check_numbers

Array = jax.Array
Mode = Literal["min", "max"]

_ROUNDING = 3e-7  # relative, a few units in the last place of float32


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PlateauState:
    """What `ReduceLROnPlateau` remembers; scalars, or `[K]` for a population.

    Attributes:
      learning_rate: float32, the current rate.
      base_learning_rate: float32, the rate that it started with.
      best: float32, the best metric so far; before the first, the worst possible infinity.
      num_bad_epochs: int32, validations in a row that did not beat `best` by the threshold.
      cooldown_counter: int32, remaining validations in which nothing counts as bad.
    """

    learning_rate: Array
    base_learning_rate: Array
    best: Array
    num_bad_epochs: Array
    cooldown_counter: Array

    @property
    def scale(self) -> Array:
        """float32, the factor by which the reductions so far multiply the rate; exactly 1 before
        the first.
        """
        unchanged = self.learning_rate == self.base_learning_rate
        return jnp.where(
            unchanged, 1.0, self.learning_rate / jnp.where(unchanged, 1.0, self.base_learning_rate)
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ReduceLROnPlateau:
    """`torch.optim.lr_scheduler.ReduceLROnPlateau`, decision for decision.

    A validation is bad when it does not beat the best metric by the threshold; NaN is bad. When the
    count of bad ones in a row exceeds `patience` (so at the third with patience 2) the rate becomes
    max(rate * factor, min_lr), unless that changes it by `eps` or less; then `cooldown` validations
    pass uncounted. The arithmetic is float32, whereas PyTorch's is float64: a metric that differs
    from the bound by less than float32 can resolve (relative 3e-7) counts as equal to it, so it is
    no improvement.

    Attributes:
      mode: "min" for a metric that should fall, "max" for one that should rise.
      factor: below 1.
      patience: bad validations that are tolerated.
      threshold: how much better a good one must be, relative to the best or absolute.
      threshold_mode: "rel" compares with best * (1 -+ threshold), "abs" with best -+ threshold.
      cooldown: validations after a reduction.
      min_lr: the rate never falls below it.
      eps: reductions not larger than it are left out.

    Raises:
      ValueError: an unknown mode or threshold_mode, or a number out of bounds.
    """

    mode: Mode = dataclasses.field(default="min", metadata={"static": True})
    factor: Fraction = 0.1
    patience: CountOrZero = 10
    threshold: NonNegative = 1e-4
    threshold_mode: Literal["rel", "abs"] = dataclasses.field(
        default="rel", metadata={"static": True}
    )
    cooldown: CountOrZero = 0
    min_lr: NonNegative = 0.0
    eps: NonNegative = 1e-8

    def __post_init__(self):
        _check_mode(self.mode)
        if self.threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold_mode={self.threshold_mode!r}: expected 'rel' or 'abs'")
        check_numbers(self)

    def init(self, learning_rate: Array | float) -> PlateauState:
        """The state before the first validation, with `learning_rate` as the current rate."""
        rate = jnp.asarray(learning_rate, jnp.float32)
        return PlateauState(
            learning_rate=rate,
            # A copy, because a donated state must not contain the same buffer twice.
            base_learning_rate=jnp.array(rate, copy=True),
            best=_worst(self.mode),
            num_bad_epochs=jnp.zeros((), jnp.int32),
            cooldown_counter=jnp.zeros((), jnp.int32),
        )

    def update(self, state: PlateauState, metric: Array | float) -> PlateauState:
        """The state after a validation that gave `metric` (a scalar)."""
        metric = jnp.asarray(metric, jnp.float32)
        sign = -1.0 if self.mode == "min" else 1.0
        if self.threshold_mode == "rel":
            bound = state.best * (1.0 + sign * self.threshold)
        else:
            bound = state.best + sign * self.threshold
        is_better = _is_better(self.mode, metric, bound, state.best)
        in_cooldown = state.cooldown_counter > 0

        bad = jnp.where(is_better | in_cooldown, 0, state.num_bad_epochs + 1)
        cooldown = jnp.where(in_cooldown, state.cooldown_counter - 1, 0)
        reduces = bad > self.patience
        lower = jnp.maximum(state.learning_rate * self.factor, self.min_lr)
        tie = _ROUNDING * state.learning_rate
        applies = reduces & (state.learning_rate - lower > self.eps + tie)
        return PlateauState(
            learning_rate=jnp.where(applies, lower, state.learning_rate),
            base_learning_rate=state.base_learning_rate,
            best=jnp.where(is_better, metric, state.best),
            num_bad_epochs=jnp.where(reduces, 0, bad).astype(jnp.int32),
            cooldown_counter=jnp.where(reduces, self.cooldown, cooldown).astype(jnp.int32),
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EarlyStoppingState:
    """What `EarlyStopping` remembers; scalars, or `[K]` for a population.

    Attributes:
      best: float32, the last metric that counted as an improvement.
      num_bad_epochs: int32, validations in a row without an improvement.
      should_stop: bool, whether that count has reached the patience.
    """

    best: Array
    num_bad_epochs: Array
    should_stop: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Stops after `patience` validations in a row that are not better than the best by `min_delta`.

    Smaller gains are not lost: they add up against the last accepted best. NaN counts as bad.
    Unlike `ReduceLROnPlateau`, it acts when the count reaches the patience, as training scripts
    usually do.

    Attributes:
      mode: "min" for a metric that should fall, "max" for one that should rise.
      patience: validations; 0 never stops.
      min_delta: an improvement is more than this, in the metric's unit.

    Raises:
      ValueError: an unknown mode, or a number out of bounds.
    """

    mode: Mode = dataclasses.field(default="min", metadata={"static": True})
    patience: CountOrZero = 10
    min_delta: NonNegative = 0.0

    def __post_init__(self):
        _check_mode(self.mode)
        check_numbers(self)

    def init(self) -> EarlyStoppingState:
        return EarlyStoppingState(
            best=_worst(self.mode),
            num_bad_epochs=jnp.zeros((), jnp.int32),
            should_stop=jnp.zeros((), jnp.bool_),
        )

    def update(self, state: EarlyStoppingState, metric: Array | float) -> EarlyStoppingState:
        """The state after a validation that gave `metric` (a scalar)."""
        metric = jnp.asarray(metric, jnp.float32)
        sign = -1.0 if self.mode == "min" else 1.0
        is_better = _is_better(self.mode, metric, state.best + sign * self.min_delta, state.best)
        bad = jnp.where(is_better, 0, state.num_bad_epochs + 1).astype(jnp.int32)
        best = jnp.where(is_better, metric, state.best)
        return self.with_patience(
            dataclasses.replace(state, best=best, num_bad_epochs=bad),
        )

    def with_patience(self, state: EarlyStoppingState) -> EarlyStoppingState:
        """The state for a run that is resumed under this description: whether to stop is decided
        anew.
        """
        patience = jnp.asarray(self.patience)
        stop = (patience > 0) & (state.num_bad_epochs >= patience)
        return dataclasses.replace(state, should_stop=stop)


def _check_mode(mode: str) -> None:
    if mode not in ("min", "max"):
        raise ValueError(f"mode={mode!r}: expected 'min' (the metric should fall) or 'max'")


def _worst(mode: Mode) -> Array:
    return jnp.asarray(jnp.inf if mode == "min" else -jnp.inf, jnp.float32)


def _is_better(mode: Mode, metric: Array, bound: Array, best: Array) -> Array:
    """Whether `metric` is better than `bound`, which was computed from `best`.

    A metric equal to the bound is not better. PyTorch decides that in float64; in float32 the
    rounding of the bound could make it seem better, so differences within rounding count as a tie.
    If the bound is the best metric itself (threshold 0), nothing was rounded and the comparison is
    exact.
    """
    size = jnp.maximum(jnp.abs(bound), jnp.abs(best))
    tie = jnp.where((bound == best) | jnp.isinf(size), 0.0, _ROUNDING * size)
    return metric < bound - tie if mode == "min" else metric > bound + tie
