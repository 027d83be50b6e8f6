"""Initial variables of a Flax module, quickly."""

from typing import Any

import jax
from flax import linen as nn

from jaxrecipes.compile_quickly import run_once


def init_variables(
    module: nn.Module, key: jax.Array, *inputs: jax.Array | jax.ShapeDtypeStruct, **kwargs: Any
) -> tuple[dict, dict]:
    """Parameters and batch statistics of `module`, drawn from `key`.

    `jit(module.init)` takes longer to compile than a training step, for a program that runs once,
    so XLA is told not to optimise it. Use it outside `jit` and `vmap`; inside, call `module.init`.

    Args:
      module: any Flax Linen module.
      key: PRNG key.
      *inputs: the arguments of the module's call; only shapes and dtypes matter.
      **kwargs: static keyword arguments of the call, such as `train=False`.

    Returns:
      (params, batch_stats); the second is empty for a module without statistics.
    """
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs]

    def init(key):
        zeros = [jax.numpy.zeros(s.shape, s.dtype) for s in shapes]
        return module.init(key, *zeros, **kwargs)

    variables = run_once(init, key)
    return variables["params"], variables.get("batch_stats", {})
