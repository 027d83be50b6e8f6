"""Keys are functions of (seed, stream name, step) and never advance.

A resumed run draws the same numbers with nothing extra to save, and adding a stream (say, for a new
augmentation) does not change the numbers drawn from the others.
"""

import zlib

import jax

Array = jax.Array


def stream_key(key: Array, stream: str, step: Array | int = 0) -> Array:
    """The key of a named stream at a step.

    Args:
      key: the run's key, a typed PRNG key scalar (`jax.random.key(seed)`); it never changes.
      stream: what the numbers are for, such as "dropout" or "mixup". The name enters by its crc32,
        which is the same on every machine and Python version (`hash` is not).
      step: the optimizer update, or whatever else counts the draws; an int or int32 scalar, and
        it may be traced.

    Returns:
      a typed PRNG key scalar.
    """
    return jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(stream.encode())), step)
