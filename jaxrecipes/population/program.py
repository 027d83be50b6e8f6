"""The compiled program that trains a population: a loop over the lanes that are active."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipes.train.recipe import Recipe
from jaxrecipes.train.step import make_train_step


class PopulationProgram:
    """`run(states, sums, source, items, counts, active, num_active)`: steps of all active lanes.

    Which lanes are active, how many, and how many steps each takes is data: trials end, are stopped
    and replaced without a compilation, and a lane that is not active costs nothing and keeps every
    bit of its state.

    With `chunk` 1 a lane's state is sliced out of the stack, takes plain steps and is written back,
    so it equals a run of its own in every bit, whatever the other lanes are. With a larger chunk so
    many lanes go through `vmap` together, which fills a GPU; their results agree with plain runs
    within rounding.

    Args:
      recipe: what is trained; the lanes' hyperparameters are in their states.
      fetch: `(source, item) -> batch`, of one lane's item; see `data.feed.fetch`.
      chunk: lanes that are trained together.

    Attributes:
      num_compilations: how many times the program was traced; 1 in a healthy search.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        fetch: Callable[[Any, Any], dict[str, jax.Array]],
        chunk: int = 1,
    ):
        if chunk < 1:
            raise ValueError(f"chunk is {chunk}; expected 1 or more")
        self.num_compilations, self._chunk = 0, chunk
        train_step = make_train_step(recipe)

        @partial(jax.jit, inline=True)  # for its cache of traces: all uses here share one
        def step(state, source, item):
            return train_step(state, fetch(source, item))

        def steps(state, sums, source, items, count):
            """`count` steps of one lane, as the program of a single run takes them."""
            log = jax.eval_shape(step, state, source, _at(items, 0))[1].log

            def body(i, carry):
                state, sums, _ = carry
                state, metrics = step(state, source, _at(items, i))
                return state, jax.tree.map(jnp.add, sums, metrics.sums), metrics.log

            empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), log)
            return jax.lax.fori_loop(0, count, body, (state, sums, empty))

        def together(states, sums, source, items, counts):
            """The same of several lanes under `vmap`; one that has taken its steps is held."""
            log = jax.eval_shape(jax.vmap(step, (0, None, 0)), states, source, _at(items, 0, 1))

            def body(i, carry):
                stepped, metrics = jax.vmap(step, (0, None, 0))(carry[0], source, _at(items, i, 1))
                summed = jax.tree.map(jnp.add, carry[1], metrics.sums)
                return _where(i < counts, (stepped, summed, metrics.log), carry)

            empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), log[1].log)
            return jax.lax.fori_loop(0, counts.max(), body, (states, sums, empty))

        def run(states, sums, source, items, counts, active, num_active):
            self.num_compilations += 1
            logs = jax.eval_shape(jax.vmap(step, (0, None, 0)), states, source, _at(items, 0, 1))[
                1
            ].log
            logs = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), logs)

            def one(k, carry):
                lane = active[k]
                state, total = _at(carry[:2], lane)
                done = steps(state, total, source, _at(items, lane), counts[lane])
                return _put(carry, done, lane)

            def several(k, carry):
                places = k * chunk + jnp.arange(chunk, dtype=jnp.int32)
                real = places < num_active
                lanes = active[jnp.minimum(places, num_active - 1)]
                state, total, given = jax.tree.map(lambda x: x[lanes], (*carry[:2], items))
                done = together(state, total, source, given, jnp.where(real, counts[lanes], 0))
                # What only fills a chunk is written to no lane.
                target = jnp.where(real, lanes, counts.shape[0])
                return jax.tree.map(lambda x, new: x.at[target].set(new, mode="drop"), carry, done)

            if chunk == 1:
                return jax.lax.fori_loop(0, num_active, one, (states, sums, logs))
            num_chunks = (num_active + chunk - 1) // chunk
            return jax.lax.fori_loop(0, num_chunks, several, (states, sums, logs))

        self._run = jax.jit(run, donate_argnums=(0, 1))
        self._step = step

    def __call__(self, states, sums, source, items, counts, active, num_active):
        """Trains the active lanes, dispatched without waiting for the device.

        Args:
          states: stacked states, `[N, ...]`; donated.
          sums: stacked metric sums, see `zeros`; donated.
          source: the arrays that all lanes' items are fetched from.
          items: `[N, S, ...]`: up to S items of each lane, in its own order.
          counts: int32 `[N]`: how many of them it takes, 0 to S.
          active: int32 `[N]` from `active_lanes`.
          num_active: how many of them count.

        Returns:
          states, sums, and the log of each lane's last step as float32 `[N]` by name; that of a
          lane which took none is 0.
        """
        return self._run(states, sums, source, items, counts, active, num_active)

    def zeros(self, states: Any, source: Any, items: Any) -> Any:
        """Metric sums of no step at all, `[N, ...]`."""
        shapes = jax.eval_shape(
            jax.vmap(self._step, (0, None, 0)), states, source, _at(items, 0, 1)
        )
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes[1].sums)


def active_lanes(active: Sequence[bool] | np.ndarray) -> tuple[np.ndarray, np.int32]:
    """The numbers of the active lanes, first in an int32 array `[N]`, and how many they are."""
    mask = np.asarray(active, bool)
    lanes = np.zeros(len(mask), np.int32)
    found = np.flatnonzero(mask)
    lanes[: len(found)] = found
    return lanes, np.int32(len(found))


def _at(tree: Any, index: Any, axis: int = 0) -> Any:
    return jax.tree.map(
        lambda x: jax.lax.dynamic_index_in_dim(x, index, axis, keepdims=False), tree
    )


def _put(carry: Any, new: Any, lane: Any) -> Any:
    return jax.tree.map(lambda x, y: jax.lax.dynamic_update_index_in_dim(x, y, lane, 0), carry, new)


def _where(mask: jax.Array, new: Any, old: Any) -> Any:
    """Leaf by leaf along the leading axis; PRNG keys never change in a step."""

    def choose(x, y):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return y
        return jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - 1)), x, y)

    return jax.tree.map(choose, new, old)
