"""The kinds of schedules. Each docstring says which PyTorch scheduler it equals.

Each function is the formula of a constructor: its first argument, the step, is not passed by the
caller of the constructor. `start`, `end`, `peak`, `base` and `target` are in the unit of the
hyperparameter; steps are float32 inside, so they are exact up to 2^24. PyTorch's schedulers are
usually stepped once per epoch, which gives a staircase: `every(cosine(1e-3, steps=30),
steps_per_epoch)`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxrecipes.schedules.schedule import Number, ScheduleLike, as_schedule, constructor

Array = jax.Array


@constructor
def linear(step: Array, start: Number, end: Number, *, steps: Number) -> Array:
    """From `start` to `end` over `steps` steps, then `end`.

    Equals torch LinearLR(start_factor=start/lr, end_factor=end/lr, total_iters=steps).
    """
    return _mix(start, end, jnp.clip(step / steps, 0.0, 1.0))


@constructor
def ramp(
    step: Array, start: Number, end: Number, *, end_step: Number, start_step: Number = 0
) -> Array:
    """`start` until `start_step`, then linear, `end` from `end_step` on."""
    length = jnp.maximum(end_step - start_step, 1e-6)
    return _mix(start, end, jnp.clip((step - start_step) / length, 0.0, 1.0))


@constructor
def warmup(step: Array, target: Number, *, warmup_steps: Number) -> Array:
    """`target * (step + 1) / warmup_steps` for `warmup_steps` steps, then `target`.

    Equals torch LambdaLR(lambda e: (e + 1) / W if e < W else 1); it never gives 0.
    """
    return target * jnp.minimum((step + 1.0) / jnp.maximum(warmup_steps, 1.0), 1.0)


@constructor
def warmup_linear(step: Array, peak: Number, *, warmup_steps: Number, total_steps: Number) -> Array:
    """From 0 to `peak` over `warmup_steps`, then linearly to 0 at `total_steps`.

    Equals Hugging Face get_linear_schedule_with_warmup.
    """
    rising = step / jnp.maximum(warmup_steps, 1.0)
    falling = (total_steps - step) / jnp.maximum(total_steps - warmup_steps, 1.0)
    return peak * jnp.where(step < warmup_steps, rising, jnp.maximum(falling, 0.0))


@constructor
def cosine(step: Array, peak: Number, *, steps: Number, end: Number = 0.0) -> Array:
    """Half a cosine wave from `peak` down to `end` at `steps`, and back up after that.

    Equals torch CosineAnnealingLR(T_max=steps, eta_min=end), past T_max too.
    """
    return _mix(end, peak, _cosine_wave(step, steps))


@constructor
def warmup_cosine(
    step: Array,
    peak: Number,
    *,
    warmup_steps: Number,
    total_steps: Number,
    num_cycles: Number = 0.5,
) -> Array:
    """From 0 to `peak` over `warmup_steps`, then `num_cycles` cosine waves until `total_steps`.

    Equals Hugging Face get_cosine_schedule_with_warmup; half a wave ends at 0.
    """
    rising = step / jnp.maximum(warmup_steps, 1.0)
    length = jnp.maximum(total_steps - warmup_steps, 1.0)
    wave = _cosine_wave(2.0 * num_cycles * (step - warmup_steps), length)
    return peak * jnp.where(step < warmup_steps, rising, wave)


@constructor
def step_decay(step: Array, start: Number, *, step_size: Number, gamma: Number = 0.1) -> Array:
    """`start`, multiplied by `gamma` every `step_size` steps. Equals torch StepLR."""
    return start * gamma ** jnp.floor_divide(step, step_size)


@constructor
def multistep(
    step: Array, start: Number, *, milestones: Sequence[Number], gamma: Number = 0.1
) -> Array:
    """`start`, multiplied by `gamma` at each of the `milestones`. Equals torch MultiStepLR."""
    reached = ((step >= milestone).astype(jnp.float32) for milestone in milestones)
    passed = sum(reached, start=jnp.zeros((), jnp.float32))
    return start * gamma**passed


@constructor
def exponential(step: Array, start: Number, *, gamma: Number) -> Array:
    """`start * gamma ** step`. Equals torch ExponentialLR."""
    return start * gamma**step


@constructor
def polynomial(
    step: Array, start: Number, *, steps: Number, power: Number = 1.0, end: Number = 0.0
) -> Array:
    """`end + (start - end) * (1 - step / steps) ** power`, then `end`.

    Equals torch PolynomialLR(total_iters=steps, power=power) if `end` is 0.
    """
    remaining = jnp.clip((steps - step) / steps, 0.0, 1.0)
    return end + (start - end) * remaining**power


@constructor
def cyclic(
    step: Array,
    base: Number,
    peak: Number,
    *,
    step_size_up: Number = 2000,
    step_size_down: Number | None = None,
    mode: str = "triangular",
    gamma: Number = 1.0,
) -> Array:
    """A triangle wave from `base` to `peak` in `step_size_up` steps and back in `step_size_down`.

    "triangular2" halves the height each cycle, "exp_range" multiplies it by `gamma ** step`. Equals
    torch CyclicLR, stepped once per batch. By default that also cycles AdamW's first beta in the
    opposite direction (cycle_momentum): `cyclic(0.9, 0.8, ...)` with the same steps, mode and
    gamma.
    """
    step_size_down = step_size_up if step_size_down is None else step_size_down
    period = step_size_up + step_size_down
    position = jnp.mod(step, period)
    rising = position / step_size_up
    falling = (period - position) / step_size_down
    height = jnp.where(position <= step_size_up, rising, falling)
    if mode == "triangular2":
        height *= 0.5 ** jnp.floor_divide(step, period)
    elif mode == "exp_range":
        height *= gamma**step
    return base + (peak - base) * height


@constructor
def one_cycle(
    step: Array,
    peak: Number,
    *,
    total_steps: Number,
    pct_start: Number = 0.3,
    div_factor: Number = 25.0,
    final_div_factor: Number = 1e4,
    anneal: str = "cos",
    three_phase: bool = False,
) -> Array:
    """From peak / div_factor up to `peak`, then down to (peak / div_factor) / final_div_factor.

    The rise takes the fraction `pct_start` of the run. With `three_phase`, the fall to the initial
    value takes as long as the rise, and the rest of the run falls on to the final value. Equals
    torch OneCycleLR(anneal_strategy=anneal); after the last step it stays at the final value, where
    torch raises. Its default cycle_momentum, from 0.95 to 0.85 and back, is `one_cycle(0.85,
    div_factor=0.85 / 0.95, final_div_factor=1, ...)`.
    """
    initial = peak / div_factor
    final = initial / final_div_factor
    top, last = pct_start * total_steps - 1.0, total_steps - 1.0
    phases = [(initial, peak, top), (peak, final, last)]
    if three_phase:
        second_end = 2.0 * pct_start * total_steps - 2.0
        phases[1:] = [(peak, initial, second_end), (initial, final, last)]
    value, begin = jnp.asarray(initial), jnp.zeros((), jnp.float32)
    for start, end, end_step in phases:
        # Computed from the remaining part of the phase, so that small values near its end stay
        # exact.
        left = jnp.clip((end_step - step) / jnp.maximum(end_step - begin, 1e-6), 0.0, 1.0)
        share = jnp.sin(0.5 * jnp.pi * left) ** 2 if anneal == "cos" else left
        value = jnp.where(step <= begin, value, _mix(end, start, share))
        begin = jnp.asarray(end_step)
    return value


@constructor
def delayed(step: Array, target: ScheduleLike, *, start_step: Number) -> Array:
    """0 until `start_step`, then `target`; if that is a schedule, its steps start there."""
    return jnp.where(step < start_step, 0.0, _restarted(target, step, start_step))


@constructor
def join(step: Array, schedules: Sequence[ScheduleLike], boundaries: Sequence[Number]) -> Array:
    """The schedules one after the other; the steps of each start at the boundary before it.

    Equals torch SequentialLR(milestones=boundaries) and optax.join_schedules. There is one boundary
    fewer than schedules.
    """
    value = as_schedule(schedules[0])(step)
    for boundary, schedule in zip(boundaries, schedules[1:], strict=True):
        value = jnp.where(step < boundary, value, _restarted(schedule, step, boundary))
    return value


@constructor
def scale(step: Array, schedule: ScheduleLike, factor: ScheduleLike) -> Array:
    """The product of two schedules, or of a schedule and a number."""
    return as_schedule(schedule)(step) * as_schedule(factor)(step)


@constructor
def every(step: Array, schedule: ScheduleLike, steps: Number) -> Array:
    """A staircase, `schedule(step // steps)`, like PyTorch schedulers stepped once per epoch."""
    return as_schedule(schedule)(jnp.floor_divide(step, steps))


def _mix(start: Number, end: Number, share: Array) -> Array:
    """Interpolates between `start` (share 0) and `end` (share 1), exact at both."""
    return start * (1.0 - share) + end * share


def _cosine_wave(position: Array, half_period: Number) -> Array:
    """(1 + cos(pi * position / half_period)) / 2, in a form that stays exact near its zeros."""
    left = half_period - jnp.mod(position, 2.0 * half_period)
    return jnp.sin(0.5 * jnp.pi * left / half_period) ** 2


def _restarted(schedule: ScheduleLike, step: Array, boundary: Number) -> Array:
    return as_schedule(schedule)(jnp.maximum(step - boundary, 0.0))
