"""From the shared config to its parts: the optimizer, and the state machines of a recipe."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optax

from jaxrecipes import optim
from jaxrecipes.losses import LossWeighting
from jaxrecipes.plateau import EarlyStopping, ReduceLROnPlateau
from jaxrecipes.precision import LossScale
from jaxrecipes.train.apply_fn import Hparams
from jaxrecipes.train.config import LossWeightingConfig, OptimConfig, RunConfig


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
    settings, stopping = config.plateau, config.early_stopping
    plateau = None
    if config.optim.schedule == "plateau":
        plateau = ReduceLROnPlateau(
            mode=settings.mode,
            factor=settings.factor,
            patience=settings.patience_epochs,
            threshold=settings.threshold,
            threshold_mode=settings.threshold_mode,
            cooldown=settings.cooldown_epochs,
            min_lr=config.optim.min_learning_rate,
            eps=settings.eps,
        )
    early_stopping = None
    if stopping.patience_epochs is not None:
        early_stopping = EarlyStopping(
            mode=stopping.mode, patience=stopping.patience_epochs, min_delta=stopping.min_delta
        )
    return {
        "frozen": config.optim.frozen,
        "loss_weighting": _loss_weighting(config.loss_weighting),
        "attention": config.attention,
        "remat": config.remat,
        "accumulation_steps": config.optim.accumulation_steps,
        "ema": config.ema.enabled,
        "ema_warmup": config.ema.warmup,
        "ema_batch_stats": config.ema.average_batch_stats,
        "loss_scale": LossScale() if config.precision == "float16" else None,
        "plateau": plateau,
        "early_stopping": early_stopping,
        "warmup_steps": config.optim.warmup_epochs * steps_per_epoch,
    }


def _loss_weighting(config: LossWeightingConfig) -> LossWeighting | None:
    if config.kind == "fixed":
        return None
    return LossWeighting(config.kind, config.shared)
