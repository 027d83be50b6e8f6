"""Rows of a table in another dtype than its own."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipes.fsdp import used_dtypes
from jaxrecipes.nn.embedding import embed

TABLE = jnp.asarray(np.random.default_rng(0).standard_normal((5, 3)), jnp.float32)
IDS = jnp.array([[0, 3], [3, 4]])


def test_rows_are_those_of_the_converted_table():
    assert embed(TABLE, IDS, jnp.bfloat16).tolist() == TABLE.astype(jnp.bfloat16)[IDS].tolist()
    assert embed(TABLE, IDS, jnp.float32).tolist() == TABLE[IDS].tolist()
    assert jnp.isnan(embed(TABLE, jnp.array([5]), jnp.bfloat16)).all()


def test_the_table_is_used_in_the_dtype_of_the_rows():
    assert used_dtypes(lambda table: embed(table, IDS, jnp.bfloat16), TABLE) == jnp.bfloat16


def test_gradients_of_a_repeated_row_are_added_up_in_float32():
    ids = jnp.zeros(300, jnp.int32)  # 1 + 256 is 256 in bfloat16
    gradient = jax.grad(lambda table: embed(table, ids, jnp.bfloat16).astype(float).sum())(TABLE)
    assert gradient.tolist() == [[300.0] * 3, *[[0.0] * 3] * 4]
