"""What a host program may have set in jax, for tests of how the library behaves under it."""

import contextlib

import jax


@contextlib.contextmanager
def all_modes():
    """64 bits, no implicit promotion of dtypes, none of ranks."""
    strict = jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise")
    with jax.enable_x64(True), strict[0], strict[1]:
        yield


def types(tree):
    """Path -> shape and dtype (weak ones marked) of each leaf: what another trace depends on."""
    return {
        jax.tree_util.keystr(path): jax.typeof(leaf).str_short(short_dtypes=True)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
