"""From one choice of frozen parameters to another: a plan's next stage, or a changed config."""

import logging
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxrecipes.optim import carry_over, leaves_by_path, split_frozen
from jaxrecipes.schedules import evaluate
from jaxrecipes.sharding import state_shardings
from jaxrecipes.train.recipe import Recipe
from jaxrecipes.train.state import TrainState

_log = logging.getLogger("jaxrecipes")


def with_moments(
    recipe: Recipe, state: TrainState, moments: Mapping[str, jax.Array] | None, mesh: Mesh
) -> TrainState:
    """The state with these moments of parameters that `recipe` trains; the rest begin anew.

    Args:
      recipe: of the stage that begins or goes on.
      state: its `opt_state` is not looked at.
      moments: leaves of an earlier optimizer state by path, laid out by `state_shardings`. None:
        all begin anew.
      mesh: the devices.

    Raises:
      ValueError: the moments are of another kind of optimizer.
    """

    def begin(params: Any) -> Any:
        trainable, _ = split_frozen(params, recipe.frozen_at(0))
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
