"""Layers of this library for which ONNX has an operator or a shorter form.

They are functions with a written-out pullback, so a traced program contains each as a single call.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jax.extend import core

from jaxrecipes.export.onnx.elementwise import elementwise
from jaxrecipes.export.onnx.tensors import Layouts, Tensor, constant, tensor
from jaxrecipes.nn import gelu, layer_norm, silu, softmax

Layer = Callable[..., Tensor]


def layer_of(call: core.Jaxpr) -> Layer | None:
    """How the called function is written as a whole; None if its equations are written one by
    one.
    """
    info = call.debug_info.func_src_info
    return next((layer for function, layer in _LAYERS if _source_of(function) == info), None)


def _source_of(function: Any) -> str:
    """The position of a function's definition, as JAX writes it."""
    code = function.__wrapped__.__code__
    return f"{function.__name__} at {code.co_filename}:{code.co_firstlineno}"


def _softmax(layouts: Layouts, call: core.Jaxpr, x: Tensor) -> Tensor:
    return tensor(layouts.graph.node("Softmax", layouts.plain(x), axis=-1), x.shape)


def _layer_norm(
    layouts: Layouts, call: core.Jaxpr, x: Tensor, scale: Tensor, bias: Tensor
) -> Tensor:
    name = layouts.graph.node(
        "LayerNormalization",
        *(layouts.plain(t) for t in (x, scale, bias)),
        axis=-1,
        epsilon=_added_before_rsqrt(call),
    )
    return tensor(name, x.shape)


def _added_before_rsqrt(call: core.Jaxpr) -> float:
    """The eps of a normalisation, which is added before rsqrt."""
    rsqrt = next(eqn for eqn in call.eqns if eqn.primitive.name == "rsqrt")
    add = next(eqn for eqn in call.eqns if rsqrt.invars[0] in eqn.outvars)
    return next(float(v.val) for v in add.invars if isinstance(v, core.Literal))


def _silu(layouts: Layouts, call: core.Jaxpr, x: Tensor) -> Tensor:
    return elementwise(layouts, "Mul", [x, elementwise(layouts, "Sigmoid", [x], x.shape)], x.shape)


def _gelu(layouts: Layouts, call: core.Jaxpr, x: Tensor) -> Tensor:
    """Writes GELU in the form that runtimes fuse."""

    def step(op: str, *operands: Tensor) -> Tensor:
        return elementwise(layouts, op, operands, x.shape)

    erf = step("Erf", step("Div", x, constant(np.float32(np.sqrt(2.0)))))
    twice = step("Mul", x, step("Add", erf, constant(np.float32(1.0))))
    return step("Mul", twice, constant(np.float32(0.5)))


_LAYERS: tuple[tuple[Any, Layer], ...] = (
    (gelu, _gelu),
    (layer_norm, _layer_norm),
    (silu, _silu),
    (softmax, _softmax),
)
