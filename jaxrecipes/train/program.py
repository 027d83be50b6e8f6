"""The compiled training program: one or several steps in a call, compiled once for any number of
them.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxrecipes.sharding import put_global, replicated, state_shardings
from jaxrecipes.train.feed import fetch
from jaxrecipes.train.fsdp import with_gathered_params
from jaxrecipes.train.recipe import Recipe
from jaxrecipes.train.state import TrainState
from jaxrecipes.train.step import make_train_step
from jaxrecipes.train.steps_per_call import StepsPerCall, choose


class TrainProgram:
    """`run(state, sums, source, items, count)`: `count` steps of a recipe on a mesh; state and sums
    are donated.

    The leading axis of `items` is the most steps of a call, which runs the first `count`: the last,
    shorter call of an epoch needs no compilation of its own.

    Args:
      recipe: what is trained.
      mesh: the devices.
      abstract_state: the state's shapes; `shardings` says where each leaf lies.

    Attributes:
      num_compilations: how many times the program was traced; 1 in a healthy run.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        mesh: Mesh,
        abstract_state: TrainState,
    ):
        self.num_compilations = 0
        self.shardings = state_shardings(abstract_state, mesh)
        train_step = make_train_step(with_gathered_params(recipe, mesh))

        @partial(jax.jit, inline=True)  # for its cache of traces: all uses here share one
        def fetch_and_step(state, source, item):
            return train_step(state, fetch(source, item))

        def one_step(state, sums, source, item):
            state, metrics = fetch_and_step(state, source, item)
            return state, jax.tree.map(jnp.add, sums, metrics.sums), metrics.log

        def run(state, sums, source, items, count):
            self.num_compilations += 1
            first = jax.tree.map(lambda x: x[0], items)
            if jax.tree.leaves(items)[0].shape[0] == 1:
                return one_step(state, sums, source, first)
            log = jax.eval_shape(fetch_and_step, state, source, first)[1].log

            def body(i, carry):
                item = jax.tree.map(lambda x: x[i], items)
                return one_step(carry[0], carry[1], source, item)

            empty_log = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), log)
            return jax.lax.fori_loop(0, count, body, (state, sums, empty_log))

        self._everywhere = everywhere = replicated(mesh)
        self._run = jax.jit(
            run,
            donate_argnums=(0, 1),
            in_shardings=(self.shardings, everywhere, None, None, None),
            out_shardings=(self.shardings, everywhere, everywhere),
        )
        self._fetch_and_step = fetch_and_step

    def __call__(self, state, sums, source, items, count):
        """`(state, sums, log of the last step)`, dispatched without waiting for the device."""
        return self._run(state, sums, source, items, count)

    def lower(self, state, sums, source, items, count) -> jax.stages.Lowered:
        """The program for such arguments (arrays or their shapes), not yet compiled."""
        return self._run.lower(state, sums, source, items, count)

    def compiled(self, state, sums, source, items, count) -> jax.stages.Compiled:
        """The program for such arguments, to look into; after a call it is the one that ran."""
        return self.lower(state, sums, source, items, count).compile()

    def sum_shapes(self, state: TrainState, source: Any, items: Any) -> Any:
        """Shapes of the metric sums that this program adds up over `items`."""
        return jax.eval_shape(self._fetch_and_step, state, source, _first(items))[1].sums

    def steps_per_call(
        self, given: int | None, state: TrainState, source: Any, items: Any
    ) -> StepsPerCall:
        """How many steps a call should have, see `steps_per_call.choose`."""
        return choose(given, self._fetch_and_step, state, source, _first(items))

    def zeros(self, shapes: Any) -> Any:
        """Sums of no step at all."""
        return jax.tree.map(
            lambda x: put_global(np.zeros(x.shape, x.dtype), self._everywhere), shapes
        )


def _first(items: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), items)
