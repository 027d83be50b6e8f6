"""Applies an operation to some examples of a batch at a cost that follows their number."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Array = jax.Array


def map_selected(
    function: Callable[..., Array], batch: Array, selected: Array, *extras: Array, chunk: int
) -> Array:
    """Applies `function` to the selected examples only, `chunk` of them at a time.

    A select would compute the operation for every example. Here a loop runs as often as there are
    chunks to do, so a rare operation costs next to nothing, and every selection, up to the whole
    batch, is right. Works under `jit` and `vmap`; not differentiable.

    Args:
      function: `(batch[rows], *(extra[rows] for extras)) -> ` the new `batch[rows]`, for `chunk`
        rows.
      batch: `[B, ...]`.
      selected: `[B]` bool.
      *extras: `[B, ...]`, what else the function needs of the examples.
      chunk: examples per call of `function`.
    """
    size = batch.shape[0]
    chunk = min(chunk, size)
    count = jnp.sum(selected, dtype=jnp.int32)
    order = jnp.pad(jnp.argsort(~selected, stable=True), (0, -size % chunk))

    def unfinished(carry: tuple[Array, Array]) -> Array:
        return carry[0] < count

    def advance(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        start, batch = carry
        rows = jax.lax.dynamic_slice(order, (start,), (chunk,))
        changed = function(batch[rows], *(jnp.asarray(extra)[rows] for extra in extras))
        rows = jnp.where(
            start + jnp.arange(chunk, dtype=jnp.int32) < count, rows, size
        )  # size: out of range
        return start + chunk, batch.at[rows].set(changed, mode="drop")

    start = jnp.zeros((), count.dtype)
    return jax.lax.while_loop(unfinished, advance, (start, batch))[1]
