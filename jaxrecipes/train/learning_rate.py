"""The learning rate of a run: what `optim` says, as a schedule of optimizer steps."""

import itertools
from collections.abc import Sequence

from jaxrecipes import schedules
from jaxrecipes.schedules import Schedule, constant
from jaxrecipes.train.config import SCHEDULES, OptimConfig, RunConfig


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
