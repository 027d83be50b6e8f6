"""Programs that run a single time."""

from collections.abc import Callable
from typing import Any

import jax


def run_once(function: Callable[..., Any], *args: Any, **jit_options: Any) -> Any:
    """`jit(function)(*args)`, compiled without optimisation where that is several times faster.

    Drawing the initial weights takes XLA longer to compile on a CPU than a train step does, for a
    program that runs once.

    Args:
      function: pure function of `args`.
      *args: pytrees of arrays.
      **jit_options: options of `jax.jit`, such as `out_shardings`.
    """
    options: dict[str, str | bool] = (
        {"xla_backend_optimization_level": "0"} if jax.default_backend() == "cpu" else {}
    )
    lowered = jax.jit(function, **jit_options).lower(*args)
    return lowered.compile(compiler_options=options)(*args)
