"""From the shared config to its parts: hyperparameters, the optimizer, and the state machines of a
recipe.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optax

from jaxrecipes import optim, schedules
from jaxrecipes.errors import unknown_name
from jaxrecipes.fields import declared_hparams
from jaxrecipes.plateau import EarlyStopping, ReduceLROnPlateau
from jaxrecipes.precision import LossScale
from jaxrecipes.schedules import Schedule, as_schedule, constant
from jaxrecipes.train.apply_fn import Hparams
from jaxrecipes.train.config import OptimConfig, RunConfig
from jaxrecipes.train.hparams import check_hparams


def build_hparams(
    config: RunConfig,
    recipe_hparams: Mapping[str, float],
    *,
    batch_size: int,
    steps_per_epoch: int,
    restarts: Sequence[int] = (),
    declared_by: Sequence[Any] = (),
) -> dict[str, Schedule]:
    """Every hyperparameter of a run as a schedule.

    Args:
      config: the shared part of the config.
      recipe_hparams: the recipe's own (dropout rate, loss weights ...), as constants.
      batch_size: global batch of one micro-batch, for the linear scaling of the learning rate.
      steps_per_epoch: optimizer steps in an epoch; `epoch` in the config's schedules.
      restarts: steps, in ascending order, at which `lr_schedule` begins anew, for what lies before
        the next one or the run's end. The config's own `schedules` go on, and so does a plateau.
      declared_by: further dataclasses whose fields declare hyperparameters (`fields.hparam`).

    Raises:
      ValueError: `schedules` names an unknown hyperparameter, or holds an expression that cannot be
        read, or a hyperparameter leaves its field's bounds at some step of the run.
    """
    opt = config.optim
    rate = opt.learning_rate
    if opt.reference_batch_size is not None:
        rate *= batch_size * opt.accumulation_steps / opt.reference_batch_size
    total_steps = config.total_steps(steps_per_epoch)
    starts = [0, *(step for step in restarts if 0 < step < total_steps)]

    def anew(build: Callable[[RunConfig], Schedule]) -> Schedule:
        parts = [
            build(dataclasses.replace(config, steps=end - start))
            for start, end in itertools.pairwise([*starts, total_steps])
        ]
        return parts[0] if len(parts) == 1 else schedules.join(parts, starts[1:])

    hparams: dict[str, Any] = {
        "learning_rate": anew(lambda part: learning_rate_schedule(part, rate, steps_per_epoch)),
        "weight_decay": opt.weight_decay,
        **(
            {"momentum": opt.momentum}
            if opt.optimizer == "sgd"
            else {"b1": opt.b1, "b2": opt.b2, "eps": opt.eps}
        ),
        **({} if opt.clip_norm is None else {"clip_norm": opt.clip_norm}),
        **({"ema_decay": config.ema.decay} if config.ema.enabled else {}),
        **recipe_hparams,
    }
    lr = config.lr_schedule
    if lr.kind == "cyclic" and lr.cycle_momentum:
        name = "momentum" if opt.optimizer == "sgd" else "b1"
        hparams[name] = anew(lambda part: _cyclic(part, 0.9, 0.8))
    names = {"epoch": float(steps_per_epoch), "run": float(total_steps)}
    for name, text in config.schedules.items():
        if name not in hparams:
            raise unknown_name("hyperparameter in schedules", name, hparams)
        hparams[name] = schedules.parse(text, names=names)
    found = {name: as_schedule(value) for name, value in hparams.items()}
    check_hparams(found, declared_hparams(config, *declared_by), total_steps=total_steps)
    return found


def learning_rate_schedule(config: RunConfig, rate: float, steps_per_epoch: int) -> Schedule:
    """The schedule that `config.lr_schedule` describes, of optimizer steps, with `rate` as its
    base.
    """
    lr, warmup = config.lr_schedule, config.lr_schedule.warmup_epochs
    if lr.warmup_ratio is not None:
        return _by_step(config, rate, lr.warmup_ratio, steps_per_epoch)
    total_steps = config.total_steps(steps_per_epoch)
    if lr.warmup_steps is not None:
        return schedules.warmup_cosine(
            rate,
            warmup_steps=lr.warmup_steps,
            total_steps=total_steps,
            num_cycles=lr.num_cycles,
        )
    epochs = -(-total_steps // steps_per_epoch)
    if lr.kind == "cyclic":
        return _cyclic(
            config, rate, 10 * rate if lr.max_learning_rate is None else lr.max_learning_rate
        )
    if lr.kind == "one_cycle":
        peak = 10 * rate if lr.max_learning_rate is None else lr.max_learning_rate
        return schedules.one_cycle(peak, total_steps=total_steps, pct_start=lr.peak_fraction)
    by_epoch: Schedule
    if lr.kind == "cosine":
        period = max(1, epochs - warmup) if lr.period_epochs is None else lr.period_epochs
        by_epoch = schedules.cosine(rate, steps=period, end=lr.min_learning_rate)
    elif lr.kind == "step":
        period = 10 if lr.period_epochs is None else lr.period_epochs
        by_epoch = schedules.step_decay(rate, step_size=period, gamma=lr.factor)
    elif lr.kind == "exponential":
        by_epoch = schedules.exponential(rate, gamma=lr.factor)
    else:
        by_epoch = constant(rate)
    if warmup:
        rising = (
            schedules.warmup(rate, warmup_steps=warmup)
            if lr.warmup_learning_rate is None
            else schedules.linear(lr.warmup_learning_rate, rate, steps=warmup)
        )
        by_epoch = schedules.join((rising, by_epoch), (warmup,))
    return by_epoch if by_epoch == constant(rate) else schedules.every(by_epoch, steps_per_epoch)


def _by_step(config: RunConfig, rate: float, ratio: float, steps_per_epoch: int) -> Schedule:
    """A rise from 0 over a share of the run, then a schedule that moves every step."""
    lr, total_steps = config.lr_schedule, config.total_steps(steps_per_epoch)
    warmup_steps = int(ratio * total_steps)
    rest = max(1, total_steps - warmup_steps)
    after: Schedule
    if lr.kind == "cosine":
        steps = rest if lr.period_epochs is None else lr.period_epochs * steps_per_epoch
        after = schedules.cosine(rate, steps=steps, end=lr.min_learning_rate)
    elif lr.kind == "linear":
        after = schedules.linear(rate, lr.min_learning_rate, steps=rest)
    elif lr.kind == "step":
        epochs = lr.period_epochs or max(1, total_steps // steps_per_epoch // 3)
        after = schedules.step_decay(rate, step_size=epochs * steps_per_epoch, gamma=lr.factor)
    elif lr.kind == "cyclic":
        peak = 10 * rate if lr.max_learning_rate is None else lr.max_learning_rate
        after = _cyclic(config, rate, peak)
    else:
        after = constant(rate)
    if not warmup_steps:
        return after
    rising = schedules.linear(0.0, rate, steps=warmup_steps)
    return schedules.join((rising, after), (warmup_steps,))


def _cyclic(config: RunConfig, base: float, peak: float) -> Schedule:
    lr = config.lr_schedule
    return schedules.cyclic(
        base, peak, step_size_up=lr.step_size_up, mode=lr.cyclic_mode, gamma=lr.cyclic_gamma
    )


def build_optimizer(
    config: OptimConfig,
    *,
    inert: Sequence[str] = (),
    factors: Callable[[Hparams], Mapping[str, Any]] | None = None,
) -> Callable[[Hparams], optax.GradientTransformation]:
    """`hparams -> optax transformation`, for the step to call; `inert` as in `optim.adamw`.

    `factors` gives learning-rate factors that are hyperparameters; the config's own come first.

    Adam and SGD treat inert parameters like the others: their decay goes through the moments.
    """

    def make_tx(hparams: Hparams) -> optax.GradientTransformation:
        moving = {} if factors is None else factors(hparams)
        by_rule = {**config.learning_rate_factors}
        by_rule |= {rule: factor for rule, factor in moving.items() if rule not in by_rule}
        groups: dict[str, Any] = {
            "decay_mask": optim.no_decay(*config.no_decay) if config.no_decay else None,
            "learning_rate_factors": list(by_rule.items()) or None,
        }
        if config.optimizer == "sgd":
            return optim.sgd(hparams, **groups)
        if config.optimizer == "adam":
            return optim.adam(hparams, **groups)
        return optim.adamw(hparams, inert=inert, **groups)

    return make_tx


def shared_parts(config: RunConfig, steps_per_epoch: int) -> dict[str, Any]:
    """The fields of a `Recipe` that every recipe takes from the shared config alike."""
    lr, stopping = config.lr_schedule, config.early_stopping
    plateau = ReduceLROnPlateau(
        mode=lr.mode,
        factor=lr.factor,
        patience=lr.patience_epochs,
        threshold=lr.threshold,
        threshold_mode=lr.threshold_mode,
        cooldown=lr.cooldown_epochs,
        min_lr=lr.min_learning_rate,
        eps=lr.eps,
    )
    early_stopping = None
    if stopping.patience_epochs is not None:
        early_stopping = EarlyStopping(
            mode=stopping.mode, patience=stopping.patience_epochs, min_delta=stopping.min_delta
        )
    return {
        "frozen": config.optim.frozen,
        "accumulation_steps": config.optim.accumulation_steps,
        "ema": config.ema.enabled,
        "ema_warmup": config.ema.warmup,
        "ema_batch_stats": config.ema.average_batch_stats,
        "loss_scale": LossScale() if config.precision == "float16" else None,
        "plateau": plateau if lr.kind == "plateau" else None,
        "early_stopping": early_stopping,
        "warmup_steps": lr.warmup_epochs * steps_per_epoch,
    }
