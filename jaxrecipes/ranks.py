"""Broadcasting from the right, written out.

NumPy adds leading axes by itself; under a host's `jax_numpy_rank_promotion="raise"` that is an
error. These add them, for the very same program.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

Array = jax.Array


def aligned(values: Array, x: Array) -> Array:
    """`values` with leading axes of length 1, as many axes as `x` has: `[C]` next to `[B, T, C]`
    becomes `[1, 1, C]`.
    """
    return jax.lax.broadcast_to_rank(values, x.ndim)


def as_array(x: ArrayLike) -> Array:
    """An array as it is; Python's numbers, and lists of them, as float32."""
    return jnp.asarray(x, getattr(x, "dtype", jnp.float32))


def same_rank(*arrays: ArrayLike) -> list[Array]:
    """The arrays (`as_array`) with as many axes as the one that has most; scalars stay scalars."""
    found = [as_array(x) for x in arrays]
    rank = max(array.ndim for array in found)
    return [jax.lax.broadcast_to_rank(x, rank) if x.ndim else x for x in found]
