"""Elementwise operators, on arrays of equal shapes in whatever layout the graph holds them."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxrecipes.export.onnx.tensors import Layouts, Shape, Tensor, constant, tensor

ELEMENTWISE = {
    "abs": "Abs",
    "add": "Add",
    "add_any": "Add",
    "and": "And",
    "ceil": "Ceil",
    "cos": "Cos",
    "cosh": "Cosh",
    "div": "Div",
    "eq": "Equal",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "le": "LessOrEqual",
    "le_to": "LessOrEqual",
    "log": "Log",
    "logistic": "Sigmoid",
    "lt": "Less",
    "lt_to": "Less",
    "min": "Min",
    "mul": "Mul",
    "neg": "Neg",
    "not": "Not",
    "or": "Or",
    "pow": "Pow",
    "sign": "Sign",
    "sin": "Sin",
    "sinh": "Sinh",
    "sqrt": "Sqrt",
    "sub": "Sub",
    "tan": "Tan",
    "tanh": "Tanh",
    "xor": "Xor",
}


def is_elementwise(primitive: str) -> bool:
    """Whether each element of the result depends only on the same element of the operands."""
    others = ("convert_element_type", "integer_pow", "max", "ne", "rsqrt", "select_n", "square")
    return primitive in ELEMENTWISE or primitive in others


def elementwise(layouts: Layouts, op: str, xs: Sequence[Tensor], shape: Shape) -> Tensor:
    """Writes an operator on arrays of equal or broadcastable shapes, in the layout of the
    largest.
    """
    variables = [x for x in xs if not x.is_constant and x.shape]
    if not variables:  # scalars, or constants that repeat along the batch
        xs = [x if not x.shape else tensor(layouts.plain(x), x.shape) for x in xs]
        variables = [x for x in xs if x.shape]
        if not variables:
            return tensor(layouts.graph.node(op, *(layouts.plain(x) for x in xs)), shape)
    if len({x.merged for x in variables}) > 1:
        plain = {id(x): tensor(layouts.plain(x), x.shape) for x in variables}
        xs = [plain.get(id(x), x) for x in xs]
        variables = list(plain.values())
    lead = max(variables, key=lambda x: sum(size != 1 for size in x.base))
    base = list(lead.base)
    for x in variables:
        base = [size if size != 1 else other for size, other in zip(base, x.base, strict=True)]
    for x in xs:
        if x.array is not None and x.array.ndim:
            for axes, size in zip(lead.merged, x.array.shape, strict=True):
                if size != 1 and len(axes) == 1:
                    base[axes[0]] = size
    operands = [layouts.like(x, lead) for x in xs]
    same_shape = tuple(base) == lead.base
    name = layouts.graph.node(op, *operands, ndim=len(base), same_shape=same_shape)
    return Tensor(tuple(shape), None, "", name, tuple(base), lead.order, lead.merged)


def unary_steps(layouts: Layouts, x: Tensor, *steps: tuple[Any, ...]) -> list[Tensor]:
    """Writes several operators in sequence, each step with its constants."""
    for op, *others in steps:
        operands = [x if other is None else constant(other) for other in others] or [x]
        x = elementwise(layouts, op, operands, x.shape)
    return [x]


def integer_pow(layouts: Layouts, x: Tensor, *, y: int, **_: Any) -> list[Tensor]:
    """Writes an integer power; a square becomes a product."""
    if y == 2:
        return unary_steps(layouts, x, ("Mul", None, None))
    return unary_steps(layouts, x, ("Pow", None, np.float32(y)))


def not_equal(layouts: Layouts, x: Tensor, y: Tensor, *, shape: Shape, **_: Any) -> list[Tensor]:
    """Writes an inequality, for which ONNX has no operator."""
    return [elementwise(layouts, "Not", [elementwise(layouts, "Equal", [x, y], shape)], shape)]


def select_n(
    layouts: Layouts, which: Tensor, *cases: Tensor, shape: Shape, **_: Any
) -> list[Tensor]:
    """Writes an elementwise choice between two arrays."""
    if len(cases) != 2:
        raise ValueError(f"a choice among {len(cases)} arrays cannot be exported")
    return [elementwise(layouts, "Where", [which, cases[1], cases[0]], shape)]


def clamp(layouts: Layouts, low: Tensor, x: Tensor, high: Tensor, **_: Any) -> list[Tensor]:
    """Writes a clamp between two bounds."""
    return [
        elementwise(layouts, "Min", [maximum(layouts, x, low, shape=x.shape)[0], high], x.shape)
    ]


def maximum(layouts: Layouts, x: Tensor, y: Tensor, *, shape: Shape, **_: Any) -> list[Tensor]:
    """Writes a maximum; with 0 it is Relu, which runtimes fuse with products."""
    variable, other = (y, x) if x.is_constant else (x, y)
    if other.array is not None and not np.any(other.array) and variable.shape == shape:
        return [elementwise(layouts, "Relu", [variable], shape)]
    return [elementwise(layouts, "Max", [x, y], shape)]


def rem(layouts: Layouts, x: Tensor, y: Tensor, *, shape: Shape, **_: Any) -> list[Tensor]:
    """Writes the remainder with the sign of the dividend, like C's fmod."""
    a, b = (tensor(layouts.plain(t), t.shape) for t in (x, y))
    return [tensor(layouts.graph.node("Mod", a.name, b.name, fmod=1), shape)]


def convert(layouts: Layouts, x: Tensor, *, new_dtype: Any, dtypes: Any, **_: Any) -> list[Tensor]:
    """Writes a cast; graphs compute in float32, int64 and bool, whatever the width in the
    program.
    """
    kinds = {"f": 1, "i": 7, "u": 7, "b": 9}  # numpy dtypes and their numbers in TensorProto
    before, after = (
        "f" if jax.dtypes.issubdtype(dtype, np.floating) else np.dtype(dtype).kind
        for dtype in (dtypes[0], new_dtype)
    )
    if kinds[before] == kinds[after]:
        return [x]
    if x.is_constant:
        x = tensor(layouts.plain(x), x.shape)
    name = layouts.graph.node("Cast", x.name, to=kinds[after])
    return [Tensor(x.shape, None, "", name, x.base, x.order, x.merged)]
