"""Rows of a table, taken in the dtype of the computation."""

from functools import partial

import jax
from jax import numpy as jnp
from jax.typing import DTypeLike


def embed(table: jax.Array, ids: jax.Array, dtype: DTypeLike) -> jax.Array:
    """`[V, C]` float32 and integers `[...]` to `[..., C]` in `dtype`; NaN for an id beyond the
    table.

    The table is converted before rows are taken, so that FSDP gathers it in `dtype`. Gradients of
    a row that is taken several times are added up in float32 all the same.
    """
    if jnp.dtype(dtype) == jnp.float32:
        return jnp.take(table, ids, axis=0)
    return _embed(table, ids, jnp.dtype(dtype))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _embed(table, ids, dtype):
    return jnp.take(table.astype(dtype), ids, axis=0)


def _forward(table, ids, dtype):
    return _embed(table, ids, dtype), (ids, jnp.empty((0, len(table)), table.dtype))


def _backward(dtype, kept, g):
    ids, like = kept
    rows = jnp.zeros((like.shape[1], g.shape[-1]), jnp.float32)
    return rows.at[ids].add(g.astype(jnp.float32)).astype(like.dtype), None


_embed.defvjp(_forward, _backward)
