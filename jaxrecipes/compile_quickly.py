"""Compiling programs that run only once, where optimising them costs more than it saves."""

from collections.abc import Callable
from typing import Any

import jax


def compile_quickly(jitted: Any, *args: Any) -> jax.stages.Compiled:
    """Compiles a jitted function for these arguments, without optimisation where that is several
    times faster.

    Drawing the initial weights takes XLA longer to compile on a CPU than a train step does, for a
    program that runs in no time.
    """
    options: dict[str, str | bool] = (
        {"xla_backend_optimization_level": "0"} if jax.default_backend() == "cpu" else {}
    )
    return jitted.lower(*args).compile(compiler_options=options)


def run_once(function: Callable[..., Any], *args: Any, **jit_options: Any) -> Any:
    """`jit(function)(*args)` of a program that runs a single time, compiled quickly.

    Args:
      function: pure function of `args`.
      *args: pytrees of arrays.
      **jit_options: options of `jax.jit`, such as `out_shardings`.
    """
    return compile_quickly(jax.jit(function, **jit_options), *args)(*args)
