"""The training state: one pytree of arrays, all of it in the checkpoint."""

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh

from jaxrecipes.ema import ema_init
from jaxrecipes.losses import WeightingState
from jaxrecipes.losses.composite import term_names
from jaxrecipes.optim import carry_over, leaves_by_path, split_frozen, with_late
from jaxrecipes.schedules import Schedule, evaluate
from jaxrecipes.sharding import state_shardings
from jaxrecipes.train.recipe import Recipe

_log = logging.getLogger("jaxrecipes")


class TrainState(struct.PyTreeNode):
    """Everything that a run carries from one step to the next.

    Attributes:
      step: int32 scalar, training steps taken. A step whose gradients were not finite counts too
        (the schedules and the data move on) but leaves params, moments, statistics and averages as
        they were.
      params, batch_stats: the network's nested dicts.
      opt_state: the optax state over the trainable parameters; it never holds a hyperparameter.
      ema_params, ema_batch_stats: float32 averages, or None without EMA.
      hparams: `{name: Schedule}`; their numbers are leaves, so replacing them recompiles nothing.
      plateau, early_stopping, loss_scale: state machines, or None.
      loss_weighting: the learned factors of the loss's terms, or None.
      num_skipped, num_skipped_in_row: int32 scalars, steps without an update, in total and since
        the last update.
      key: the run's PRNG key. It never advances; every use folds in a stream name and the step.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema_params: Any
    ema_batch_stats: Any
    hparams: dict[str, Schedule]
    plateau: Any  # PlateauState, EarlyStoppingState and LossScaleState, where the recipe has them
    early_stopping: Any
    loss_scale: Any
    num_skipped: jax.Array
    num_skipped_in_row: jax.Array
    key: jax.Array
    loss_weighting: WeightingState | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, as a checkpoint holds them."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def create_state(
    recipe: Recipe,
    key: jax.Array,
    *,
    hparams: Mapping[str, Schedule] | None = None,
    late: Iterable[str] = (),
    given: tuple[Any, Any] = ({}, {}),
) -> TrainState:
    """The state before the first step: a pure function of the recipe and the run's key.

    Jit it with the state's shardings as `out_shardings` to create a sharded state in place.

    Args:
      recipe: what is trained; with later stages the first.
      key: seeds the weights and is kept for the run.
      hparams: used instead of the recipe's, with the same structure; their numbers may be traced.
      late: paths of parameters that get their own count of updates.
      given: what `starting_weights(recipe)` returns, passed as an argument of the jitted function;
        by default all weights are drawn.
    """
    params, batch_stats = map(_with_given, recipe.init(key), given)
    # Strong float32: a Python number would cause a second trace once a run changes it.
    own = dict(recipe.hparams if hparams is None else hparams)
    leaves: dict[str, Schedule] = jax.tree.map(jnp.float32, own)
    values = evaluate(leaves, jnp.int32(0))
    peak = evaluate(leaves, jnp.int32(recipe.warmup_steps))
    trainable, _ = split_frozen(params, recipe.frozen)
    for stage in recipe.later_stages:
        split_frozen(params, stage.frozen)  # what is wrong with a later stage is said now
    zero = jnp.zeros((), jnp.int32)
    return TrainState(
        step=zero,
        params=params,
        batch_stats=batch_stats,
        opt_state=with_late(recipe.make_tx(values).init(trainable), late),
        ema_params=ema_init(params) if recipe.ema else None,
        ema_batch_stats=ema_init(batch_stats) if recipe.ema else None,
        hparams=leaves,
        plateau=recipe.plateau.init(peak["learning_rate"]) if recipe.plateau else None,
        early_stopping=recipe.early_stopping.init() if recipe.early_stopping else None,
        loss_scale=recipe.loss_scale.init() if recipe.loss_scale else None,
        num_skipped=zero,
        num_skipped_in_row=zero,
        key=key,
        loss_weighting=recipe.loss_weighting.init(term_names(leaves))
        if recipe.loss_weighting
        else None,
    )


def with_moments(
    recipe: Recipe, state: TrainState, moments: Mapping[str, jax.Array] | None, mesh: Mesh
) -> TrainState:
    """The state with these moments, for the parameters that `recipe` trains; others are reset.

    Args:
      recipe: of the stage that starts or continues.
      state: its `opt_state` is ignored.
      moments: leaves of an earlier optimizer state by path, laid out by `state_shardings`. None:
        all are reset.
      mesh: the devices.

    Raises:
      ValueError: the moments are of another kind of optimizer.
    """

    def begin(params: Any) -> Any:
        trainable, _ = split_frozen(params, recipe.frozen)
        hparams: Any = jax.tree.map(jnp.float32, dict(recipe.hparams))
        return recipe.make_tx(evaluate(hparams, 0)).init(trainable)

    abstract = jax.eval_shape(begin, state.params)
    leaves = leaves_by_path(abstract)
    missing = {path: leaf for path, leaf in leaves.items() if path not in (moments or {})}
    if missing:

        def begin_missing(params: Any) -> dict[str, jax.Array]:
            begun = leaves_by_path(begin(params))
            return {path: begun[path] for path in missing}

        create = jax.jit(begin_missing, out_shardings=state_shardings(missing, mesh))
        _log.info("moments begin anew: %d arrays of %d", len(missing), len(leaves))
        leaves |= create(state.params)
    begun = jax.tree.unflatten(jax.tree.structure(abstract), list(leaves.values()))
    return state.replace(opt_state=begun if moments is None else carry_over(moments, begun))


def starting_weights(recipe: Recipe) -> tuple[Any, Any]:
    """`(params, batch_stats)`, nested dicts of host arrays that a new run starts from, not drawn.

    Raises: what `recipe.pretrained` raises.
    """
    if recipe.pretrained is None:
        return {}, {}
    return recipe.pretrained(*jax.eval_shape(recipe.init, jax.random.key(0)))


def _with_given(drawn: Any, given: Any, path: str = "") -> Any:
    """`drawn`, with its arrays replaced by those of `given`."""
    if not isinstance(drawn, Mapping):
        if drawn.shape != given.shape:
            raise ValueError(
                f"the pretrained {path[:-1]} has shape {given.shape}; that of the network is "
                f"{drawn.shape}"
            )
        return jnp.asarray(given, drawn.dtype)
    if unknown := given.keys() - drawn.keys():
        raise ValueError(f"the network has no {path}{min(unknown)}, which was pretrained")
    changed = {name: _with_given(drawn[name], given[name], f"{path}{name}/") for name in given}
    return {**drawn, **changed}
