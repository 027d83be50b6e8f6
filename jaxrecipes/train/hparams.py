"""The hyperparameters of a run: collected from the fields that declare them, and checked against
their bounds at every step.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from annotated_types import Interval

from jaxrecipes import schedules
from jaxrecipes.bounds import bounds_of, within, wrong
from jaxrecipes.errors import shortened, telling
from jaxrecipes.fields import NonNegative, Probability, declared_hparams, leaves_of
from jaxrecipes.schedules import Schedule, ScheduleLike, as_schedule, constant
from jaxrecipes.train.config import SCHEDULES, OptimConfig, RunConfig

_CHUNK = 2**20
_MOST_STEPS = 2**24  # beyond it float32 does not tell neighbouring steps apart
_ROUNDING = 4e-7  # relative: what a schedule between two numbers in float32 may exceed them by


def collect(
    config: RunConfig,
    steps_per_epoch: int,
    *,
    also: Sequence[Any] = (),
    derive: Callable[[Mapping[str, Schedule]], Mapping[str, ScheduleLike]] | None = None,
    restarts: Sequence[int] = (),
) -> dict[str, Schedule]:
    """Every hyperparameter of a run as a schedule, under the name that its field declares.

    Args:
      config: a recipe's, whose fields declare them (`fields.hparam`).
      steps_per_epoch: optimizer steps in an epoch; `epoch` in a schedule's text.
      also: further dataclasses whose fields declare hyperparameters.
      derive: of those of the fields: the ones that follow from something else as well, and take
        their place.
      restarts: see `learning_rate_schedule`.

    Raises:
      ValueError: a schedule's text that these numbers make no sense of (names the field), or a
        hyperparameter that leaves its field's bounds at some step of the run.
    """
    total_steps = config.total_steps(steps_per_epoch)
    names = {"epoch": float(steps_per_epoch), "run": float(total_steps)}
    found: dict[str, Schedule] = {}
    for leaf in (leaf for part in (config, *also) for leaf in leaves_of(part)):
        with telling(leaf.path, ValueError):
            if leaf.name == "learning_rate":
                found[leaf.name] = learning_rate_schedule(
                    config, steps_per_epoch, restarts=restarts
                )
            elif isinstance(leaf.value, str):
                found[leaf.name] = schedules.parse(leaf.value, names=names)
            else:
                found[leaf.name] = constant(leaf.value)
    derived = {} if derive is None else derive(found)
    found |= {name: as_schedule(value) for name, value in derived.items()}
    check_hparams(found, declared_hparams(config, *also), total_steps=total_steps)
    return found


def hparam_bounds(name: str, declared: Mapping[str, Interval]) -> Interval:
    """The bounds of a hyperparameter: those of its field, or of its kind where it has none.

    Args:
      name: of the hyperparameter.
      declared: from `fields.declared_hparams`.
    """
    if name in declared:
        return declared[name]
    if name.startswith("loss_weight/"):
        return bounds_of(NonNegative)
    return bounds_of(Probability) if name.endswith("_prob") else Interval()


def check_hparams(
    hparams: Mapping[str, Schedule], declared: Mapping[str, Interval], *, total_steps: int
) -> None:
    """Checks the value of every hyperparameter at every step of a run.

    Of a run of more than 2^24 steps every n-th and the last are looked at.

    Raises:
      ValueError: one is out of bounds or not finite; names it, the first such step, and the value.
    """
    moving = {name: s for name, s in hparams.items() if s.kind is not constant}
    still = {name: float(s.numbers["value"]) for name, s in hparams.items() if name not in moving}
    for name, value in still.items():
        problem = wrong(value, hparam_bounds(name, declared), name)
        if problem is not None:
            raise ValueError(f"the hyperparameter {name} {problem}")
    stride = -(-total_steps // _MOST_STEPS)
    for start in range(0, total_steps, _CHUNK * stride):
        steps = np.arange(start, start + min(_CHUNK, total_steps) * stride, stride)
        steps = np.minimum(steps, total_steps - 1).astype(np.int32)
        moved = jax.device_get(_over(moving, steps)) if moving else {}
        for name, values in moved.items():
            _check_values(name, moving[name], steps, values, hparam_bounds(name, declared))
        constants = {n: np.broadcast_to(np.float32(v), steps.shape) for n, v in still.items()}
        _check_ranges(steps, constants | moved)
        if not moving:
            break


def _check_ranges(steps: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
    """Raises a ValueError where X_min is above X_max."""
    for name, low in values.items():
        most = f"{name.removesuffix('_min')}_max"
        if name.endswith("_min") and most in values and (low > values[most]).any():
            first = int((low > values[most]).argmax())
            raise ValueError(
                f"at step {steps[first]} the hyperparameter {name} is {low[first]:g}, above "
                f"{most}, which is {values[most][first]:g}"
            )


@jax.jit
def _over(hparams: Mapping[str, Schedule], steps: jax.Array) -> dict[str, jax.Array]:
    return jax.vmap(lambda step: schedules.evaluate(hparams, step))(steps)


def _check_values(
    name: str, schedule: Schedule, steps: np.ndarray, values: np.ndarray, bounds: Interval
) -> None:
    most: Any = bounds.le
    if most is not None:
        rounded = np.isclose(values, most, rtol=_ROUNDING, atol=0.0)
        values = np.where(rounded, np.float32(most), values)
    outside = ~(np.isfinite(values) & within(values, bounds))
    if outside.any():
        first = int(outside.argmax())
        problem = wrong(float(values[first]), bounds, name)
        source = shortened(str(schedule), 120)
        raise ValueError(
            f"at step {steps[first]} the hyperparameter {name} {problem}; it follows {source}"
        )


def learning_rate_schedule(
    config: RunConfig, steps_per_epoch: int, *, restarts: Sequence[int] = ()
) -> Schedule:
    """The learning rate over the run, but for what a plateau does to it.

    Args:
      config: of the run.
      steps_per_epoch: optimizer steps in an epoch; `epoch` in a schedule's text.
      restarts: steps, in ascending order, at which `optim.schedule` begins anew, for what lies
        before the next one or the run's end. A schedule in `optim.learning_rate` goes on.
    """
    optim, total_steps = config.optim, config.total_steps(steps_per_epoch)
    factor = 1.0
    if optim.reference_batch_size is not None:
        factor = config.data.batch_size * optim.accumulation_steps / optim.reference_batch_size
    if isinstance(optim.learning_rate, str):
        names = {"epoch": float(steps_per_epoch), "run": float(total_steps)}
        whole = schedules.parse(optim.learning_rate, names=names)
        return whole if factor == 1.0 else schedules.scale(whole, factor)
    assert not isinstance(optim.learning_rate, Schedule)  # a config keeps its text
    rate = optim.learning_rate * factor
    starts = [0, *(step for step in restarts if 0 < step < total_steps)]
    parts = [
        _shaped(optim, rate, end - start, steps_per_epoch)
        for start, end in itertools.pairwise([*starts, total_steps])
    ]
    return parts[0] if len(parts) == 1 else schedules.join(parts, starts[1:])


def _shaped(optim: OptimConfig, rate: float, total_steps: int, steps_per_epoch: int) -> Schedule:
    """`optim.schedule` from its first step on, with `rate` as its base."""
    if optim.schedule not in SCHEDULES:
        names = {"epoch": float(steps_per_epoch), "run": float(total_steps), "rate": rate}
        return schedules.parse(optim.schedule, names=names)
    if optim.warmup_ratio is not None:
        return _by_step(optim, rate, optim.warmup_ratio, total_steps)
    by_epoch, warmup = constant(rate), optim.warmup_epochs
    if optim.schedule == "cosine":
        epochs = -(-total_steps // steps_per_epoch)
        period = max(1, epochs - warmup)
        by_epoch = schedules.cosine(rate, steps=period, end=optim.min_learning_rate)
    if warmup:
        by_epoch = schedules.join(
            (schedules.warmup(rate, warmup_steps=warmup), by_epoch), (warmup,)
        )
    return by_epoch if by_epoch == constant(rate) else schedules.every(by_epoch, steps_per_epoch)


def _by_step(optim: OptimConfig, rate: float, ratio: float, total_steps: int) -> Schedule:
    """A rise from 0 over a share of the run, then a schedule that moves every step."""
    warmup_steps = int(ratio * total_steps)
    rest = max(1, total_steps - warmup_steps)
    after = constant(rate)
    if optim.schedule == "cosine":
        after = schedules.cosine(rate, steps=rest, end=optim.min_learning_rate)
    elif optim.schedule == "linear":
        after = schedules.linear(rate, optim.min_learning_rate, steps=rest)
    if not warmup_steps:
        return after
    rising = schedules.linear(0.0, rate, steps=warmup_steps)
    return schedules.join((rising, after), (warmup_steps,))
