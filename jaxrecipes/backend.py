"""Chooses a formulation by the platform that a program is compiled for."""

from collections.abc import Callable
from typing import Any

from jax import lax


def by_backend(*args: Any, cpu: Callable[..., Any], default: Callable[..., Any]) -> Any:
    """Calls `cpu(*args)` in a program for CPUs and `default(*args)` in any other.

    XLA has no fast CPU kernel for a grouped convolution, for a convolution's weight gradient inside
    a loop, or for a convolution whose weights carry a `vmap` axis, so there layers compute
    convolutions as shifts and matrix products. The choice is made when the program is compiled, and
    the other formulation leaves nothing in it. Both must return the same shapes and dtypes.
    """
    return lax.platform_dependent(*args, cpu=cpu, default=default)
