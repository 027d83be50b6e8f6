"""Compiling programs that run only once, where optimising them costs more than it saves."""

from collections.abc import Callable
from typing import Any

import jax


def compile_quickly(jitted: Any, *args: Any) -> jax.stages.Compiled:
    """Compiles a jitted function for these arguments, without optimisation on platforms where that
    is several times faster.

    On a CPU, XLA takes longer to compile the initialisation of the weights than a training step,
    although it runs only briefly.
    """
    options: dict[str, str | bool] = (
        {"xla_backend_optimization_level": "0"} if jax.default_backend() == "cpu" else {}
    )
    return jitted.lower(*args).compile(compiler_options=options)


def run_once(function: Callable[..., Any], *args: Any, **jit_options: Any) -> Any:
    """`jit(function)(*args)` for a program that runs only once, compiled quickly.

    Args:
      function: pure function of `args`.
      *args: pytrees of arrays.
      **jit_options: options of `jax.jit`, such as `out_shardings`.
    """
    return compile_quickly(jax.jit(function, **jit_options), *args)(*args)
