"""Applies an operation to some of the examples of a batch."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from jaxrecipes.backend import by_backend

Array = jax.Array


def map_selected(
    function: Callable[..., Array], batch: Array, selected: Array, *extras: Array, chunk: int
) -> Array:
    """Applies `function` to the selected examples of a batch.

    On a CPU a loop runs as often as there are chunks of selected examples, so a rare operation
    costs next to nothing, and every selection, up to the whole batch, is right. A GPU's host would
    wait for the condition of that loop in every round, so elsewhere the operation is computed for
    the whole batch and selected from. Works under `jit` and `vmap`; not differentiable.

    Args:
      function: `(batch[rows], *(extra[rows] for extras)) -> ` the new `batch[rows]`, for any number
        of rows, each computed by itself.
      batch: `[B, ...]`.
      selected: `[B]` bool.
      *extras: `[B, ...]`, other arrays that the function needs for the examples.
      chunk: examples per round of the loop.
    """
    return by_backend(
        batch,
        selected,
        *extras,
        cpu=partial(_in_chunks, function, chunk=chunk),
        default=partial(_select, function),
    )


def _select(function: Callable[..., Array], batch: Array, selected: Array, *extras: Array) -> Array:
    mask = selected.reshape(-1, *(1,) * (batch.ndim - 1))
    return jnp.where(mask, function(batch, *extras), batch)


def _in_chunks(
    function: Callable[..., Array], batch: Array, selected: Array, *extras: Array, chunk: int
) -> Array:
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
