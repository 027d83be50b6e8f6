"""The training step: one pure function of (state, batch), read from top to bottom."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from jaxrecipes.backend import by_backend
from jaxrecipes.ema import ema_decay_at, ema_update
from jaxrecipes.losses import composite_loss
from jaxrecipes.metrics import Mean
from jaxrecipes.optim import (
    clip_by_global_norm,
    global_norm,
    leaves_by_path,
    merge,
    split_frozen,
)
from jaxrecipes.precision import is_floating
from jaxrecipes.rng import stream_key
from jaxrecipes.schedules import evaluate
from jaxrecipes.train.recipe import Batch, Recipe
from jaxrecipes.train.state import TrainState

_TERM_GRAD_NORM = "term_grad_norm/"


@flax.struct.dataclass
class StepMetrics:
    """What a step reports.

    Attributes:
      sums: metrics that add up over steps; a skipped step adds nothing.
      log: float32 scalars of this step: `loss`, `loss/TERM`, `grad_norm`, each hyperparameter as
        `hparams/NAME`, the recipe's `step_metrics`, and with gradnorm each `term_grad_norm/TERM`.
        Why an update was skipped is in `first_nonfinite`, an index into `looked_at`, or -1.
    """

    sums: dict[str, Any]
    log: dict[str, jax.Array]


def current_hparams(
    recipe: Recipe, state: TrainState, *, step: jax.Array | int | None = None
) -> dict[str, jax.Array]:
    """The hyperparameters in force at `step`, by default at `state.step`: the schedules' values,
    with the plateau's scale as it is now.
    """
    hparams = evaluate(state.hparams, state.step if step is None else step)
    if recipe.plateau is not None:
        hparams["learning_rate"] = hparams["learning_rate"] * state.plateau.scale
    return hparams


def weighed_hparams(
    recipe: Recipe, state: TrainState, hparams: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """The hyperparameters, with the loss weights multiplied by learned factors if any."""
    if recipe.loss_weighting is None:
        return hparams
    assert state.loss_weighting is not None
    return recipe.loss_weighting.weighed(hparams, state.loss_weighting)


def used_hparams(recipe: Recipe, state: TrainState) -> dict[str, jax.Array]:
    """The hyperparameters of the step that led to `state`; of the first one before it. Learned
    factors of the loss's weights are those of `state`.
    """
    hparams = current_hparams(recipe, state, step=jnp.maximum(state.step - 1, 0))
    return weighed_hparams(recipe, state, hparams)


def make_train_step(
    recipe: Recipe,
) -> Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]]:
    """Builds `(state, batch) -> (state, metrics)`; jit, scan, vmap or shard it at the call site.

    For a recipe with later stages this is the step of the first; `recipe.stage_at` gives the
    others. Batch leaves are `[B, ...]`, or `[accumulation_steps, B, ...]` when the recipe
    accumulates: the loss is then the mean of the micro-batch losses, and batch statistics move at
    every micro-batch. When the loss, the gradients' norm or the result of the update is not finite,
    the update is
    skipped: params, moments, statistics and averages stay as they are, and `num_skipped` grows.

    The check may cost a small network's step at most one percent, so it does not read every number
    again. Batch statistics are checked completely, because a single example can make one of them
    overflow. Of up to 16 parameters one number each is checked: what turns an update of finite
    gradients into an infinity or a NaN is nearly always a scalar (a learning rate, a bias
    correction, a moment's decay), which spoils all of them. If a single number of a parameter would
    not be finite all the same (0 / 0 with an eps of 0), it keeps its value. Moments and averages of
    finite numbers are finite; the loop checks all of them before it saves.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, StepMetrics]:
        given = current_hparams(recipe, state)
        hparams = weighed_hparams(recipe, state, given)
        trainable, frozen = split_frozen(state.params, recipe.frozen)
        weighting = recipe.loss_weighting
        loss_scale = state.loss_scale.scale if recipe.loss_scale else jnp.float32(1.0)

        def forward(trainable, batch_stats, micro_batch, key):
            outputs, batch_stats = recipe.apply_fn(
                merge(trainable, frozen),
                batch_stats,
                recipe.inputs(micro_batch),
                hparams=hparams,
                train=True,
                key=key,
            )
            terms = recipe.loss_terms(outputs, micro_batch, hparams)
            return *composite_loss(terms, hparams), outputs, batch_stats

        def objective(trainable, batch_stats, micro_batch, key):
            augment_key, apply_key = jax.random.split(key)
            micro_batch = recipe.augment(augment_key, micro_batch, hparams)
            arguments = trainable, batch_stats, micro_batch, apply_key
            loss, log, outputs, batch_stats = forward(*arguments)
            if weighting is not None and weighting.kind == "gradnorm":
                log |= _term_grad_norms(weighting.shared, forward, *arguments)
            sums = {name: Mean.from_values(value) for name, value in log.items()}
            sums |= recipe.metrics(outputs, micro_batch, hparams)
            return loss * loss_scale, (batch_stats, log, sums)

        batch_stats, log, sums, grads = _gradients(
            jax.grad(objective, has_aux=True),
            recipe.accumulation_steps,
            trainable,
            state.batch_stats,
            batch,
            stream_key(state.key, "step", state.step),
        )
        grads = jax.tree.map(lambda g: g / loss_scale, grads)
        grad_norm = global_norm(grads)
        if recipe.ema:
            decay = ema_decay_at(hparams["ema_decay"], state.step, warmup=recipe.ema_warmup)

        def optimize(learned):
            clip_norm = hparams.get("clip_norm", jnp.inf)
            clipped, _ = clip_by_global_norm(grads, clip_norm, norm=grad_norm)
            updates, opt_state = recipe.make_tx(hparams).update(
                clipped, learned["opt_state"], learned["trainable"]
            )
            return optax.apply_updates(learned["trainable"], updates), opt_state

        def update(learned):
            trainable, opt_state = optimize(learned)
            trainable = jax.tree.map(_kept_finite, trainable, learned["trainable"])
            new = {"trainable": trainable, "batch_stats": batch_stats, "opt_state": opt_state}
            if weighting is not None:
                losses, norms = _by_term(log, "loss/"), _by_term(log, _TERM_GRAD_NORM)
                old = learned["loss_weighting"]
                new["loss_weighting"] = weighting.update(old, given, losses, norms)
            if recipe.ema:
                stats_decay = decay if recipe.ema_batch_stats else jnp.float32(0.0)
                params = merge(trainable, frozen)
                new["ema_params"] = ema_update(learned["ema_params"], params, decay)
                new["ema_batch_stats"] = ema_update(
                    learned["ema_batch_stats"], batch_stats, stats_decay
                )
            return new

        learned = {
            "trainable": trainable,
            "batch_stats": state.batch_stats,
            "opt_state": state.opt_state,
        }
        if weighting is not None:
            learned["loss_weighting"] = state.loss_weighting
        if recipe.ema:
            learned |= {
                "ema_params": state.ema_params,
                "ema_batch_stats": state.ema_batch_stats,
            }
        look = {
            "loss": log["loss"],
            "grad_norm": grad_norm,
            "batch_stats": batch_stats,
            "params": [_one_number(x) for x in _some(jax.tree.leaves(optimize(learned)[0]))],
        }
        if recipe.ema:
            look["ema_decay"] = decay
        finite, first_nonfinite = _all_finite(look)
        learned = _update_if(finite, update, learned)
        params = merge(learned.pop("trainable"), frozen)

        skipped = (~finite).astype(jnp.int32)
        new_state = state.replace(
            step=state.step + 1,
            loss_scale=_next_loss_scale(recipe, state, grad_norm, log["loss"]),
            num_skipped=state.num_skipped + skipped,
            num_skipped_in_row=(state.num_skipped_in_row + 1) * skipped,
            params=params,
            **learned,
        )
        log = log | {
            "grad_norm": grad_norm,
            "num_skipped_in_row": new_state.num_skipped_in_row,
            "first_nonfinite": first_nonfinite,
        }
        log |= {f"hparams/{name}": value for name, value in hparams.items()}
        log |= {name: sums[name].compute() for name in recipe.step_metrics}
        sums = jax.tree.map(lambda x: jnp.where(finite, x, jnp.zeros_like(x)), sums)
        return new_state, StepMetrics(sums=sums, log=log)

    return train_step


def _term_grad_norms(shared_rules, forward, trainable, *others):
    """The norm of each term's gradient with respect to the parameters that the rules name, as
    `term_grad_norm/NAME`; a backward pass for each.
    """
    trainable = jax.lax.stop_gradient(trainable)
    rest, shared = split_frozen(trainable, shared_rules) if shared_rules else ({}, trainable)

    def means(shared):
        _, log, *_ = forward(merge(shared, rest), *others)
        return _by_term(log, "loss/")

    losses, pullback = jax.vjp(means, shared)
    norms = {}
    for name in losses:
        one = {other: jnp.float32(other == name) for other in losses}
        norms[f"{_TERM_GRAD_NORM}{name}"] = global_norm(pullback(one)[0])
    return norms


def _by_term(log, prefix):
    return {name.removeprefix(prefix): x for name, x in log.items() if name.startswith(prefix)}


def _update_if(finite, update, learned):
    """`update(learned)` if `finite`, else `learned`.

    On a CPU a select would have XLA copy all moments before it computes new ones. A GPU's host
    would wait for the condition of a branch in every step, so there it is a select.
    """

    def branch(finite, learned):
        return jax.lax.cond(finite, update, lambda learned: learned, learned)

    def select(finite, learned):
        return jax.tree.map(partial(jnp.where, finite), update(learned), learned)

    return by_backend(finite, learned, cpu=branch, default=select)


def looked_at(recipe: Recipe, state: TrainState) -> list[str]:
    """What a step checks before it keeps an update, in the order of `first_nonfinite`: `loss`,
    `grad_norm`, `ema_decay`, and the path of each array.
    """
    trainable, _ = split_frozen(state.params, recipe.frozen)
    stats = leaves_by_path({"batch_stats": state.batch_stats}).items()
    return [
        *(path for path, leaf in stats if is_floating(leaf) for _ in range(leaf.size)),
        *(["ema_decay"] if recipe.ema else []),
        *("grad_norm", "loss"),
        *_some(list(leaves_by_path({"params": trainable}))),
    ]


def _some(leaves: list[Any]) -> list[Any]:
    """Up to 16 leaves, evenly spread from the first to the last."""
    count = min(16, len(leaves))
    return [leaves[i * (len(leaves) - 1) // max(1, count - 1)] for i in range(count)]


def _kept_finite(new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(new), new, old)


def _one_number(leaf: jax.Array) -> jax.Array:
    return jax.lax.slice(leaf, (0,) * leaf.ndim, (min(1, leaf.size),) * leaf.ndim)


def _all_finite(look: Any) -> tuple[jax.Array, jax.Array]:
    """Whether all numbers are finite, and the index of the first that is not, or -1."""
    numbers = jnp.concatenate([x.ravel() for x in jax.tree.leaves(look) if is_floating(x)])
    wrong = ~jnp.isfinite(numbers)
    found = wrong.any()
    return ~found, jnp.where(found, wrong.argmax(), -1)


def _next_loss_scale(recipe, state, grad_norm, loss):
    if recipe.loss_scale is None:
        return None
    counts = jnp.isfinite(loss)
    updated = recipe.loss_scale.update(state.loss_scale, jnp.isfinite(grad_norm) & counts)
    if not recipe.keep_scale_on_nonfinite_loss:
        return updated
    return jax.tree.map(lambda new, old: jnp.where(counts, new, old), updated, state.loss_scale)


def _gradients(grad_fn, accumulation_steps, trainable, batch_stats, batch, key):
    """(batch_stats, log, sums, grads) of one batch, or of micro-batches in order, whose losses are
    averaged.
    """
    if accumulation_steps == 1:
        grads, (batch_stats, log, sums) = grad_fn(trainable, batch_stats, batch, key)
        return batch_stats, log, sums, grads

    def micro_step(carry, micro):
        batch_stats, grads = carry
        micro_batch, micro_key = micro
        new_grads, (batch_stats, log, sums) = grad_fn(
            trainable, batch_stats, micro_batch, micro_key
        )
        return (batch_stats, jax.tree.map(jnp.add, grads, new_grads)), (log, sums)

    (batch_stats, grads), (logs, sums) = jax.lax.scan(
        micro_step,
        (batch_stats, jax.tree.map(jnp.zeros_like, trainable)),
        (batch, jax.random.split(key, accumulation_steps)),
    )
    grads = jax.tree.map(lambda g: g / accumulation_steps, grads)
    log = jax.tree.map(lambda x: x.mean(0), logs)
    sums = jax.tree.map(lambda x: x.sum(0, dtype=x.dtype), sums)
    return batch_stats, log, sums, grads
