"""How many steps go into one call of the training program."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax

DEFAULT = 8
_REASON = "on CPU XLA runs the convolutions of a step many times slower inside a loop"


@dataclasses.dataclass(frozen=True)
class StepsPerCall:
    """A number of steps, and why it is that one; `unwise` if what was asked for costs much time."""

    count: int
    reason: str
    unwise: bool = False


def choose(given: int | None, step: Callable[..., Any], *args: Any) -> StepsPerCall:
    """As many as are given, or else what the program of one step suggests.

    XLA's fast convolution is lost inside loops on CPU: a step with one in it goes alone into a
    call there. All others share a call, which saves dispatches.

    Args:
      given: steps, or None to choose.
      step: a jitted function.
      *args: its arguments, or their shapes; it is traced for them unless it was before.
    """
    convolutions = (
        given != 1
        and jax.default_backend() == "cpu"
        and "conv_general_dilated" in _primitives_on_cpu(jax.make_jaxpr(step)(*args).jaxpr)
    )
    if given is not None:
        return StepsPerCall(given, _REASON if convolutions else "as given", unwise=convolutions)
    if convolutions:
        return StepsPerCall(1, _REASON)
    return StepsPerCall(DEFAULT, "fewer calls, and no convolutions that a loop would slow down")


def _primitives_on_cpu(jaxpr: Any) -> Iterator[str]:
    """Names of the operations of a jaxpr and of those inside them, without what
    `lax.platform_dependent` has for other platforms.
    """
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        params = dict(equation.params)
        platforms = params.get("branches_platforms")
        if platforms is not None:
            own = next(i for i, names in enumerate(platforms) if names is None or "cpu" in names)
            params["branches"] = params["branches"][own]
        for inner in jax.tree.leaves(list(params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                yield from _primitives_on_cpu(getattr(inner, "jaxpr", inner))


def _is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")
