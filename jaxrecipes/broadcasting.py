"""Broadcasting with explicit leading axes.

NumPy adds leading axes implicitly, which is an error if the host program sets
`jax_numpy_rank_promotion="raise"`. These functions add them explicitly; the compiled program is the
same.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

Array = jax.Array


def aligned(values: Array, x: Array) -> Array:
    """`values` with leading axes of length 1, so that it has as many axes as `x`: `[C]` next to
    `[B, T, C]` becomes `[1, 1, C]`.
    """
    return jax.lax.broadcast_to_rank(values, x.ndim)


def as_array(x: ArrayLike) -> Array:
    """An array unchanged; Python numbers, and lists of them, as float32."""
    return jnp.asarray(x, getattr(x, "dtype", jnp.float32))


def same_rank(*arrays: ArrayLike) -> list[Array]:
    """The arrays (`as_array`), all with as many axes as the one that has the most; scalars stay
    scalars.
    """
    found = [as_array(x) for x in arrays]
    rank = max(array.ndim for array in found)
    return [jax.lax.broadcast_to_rank(x, rank) if x.ndim else x for x in found]
