"""How each primitive of JAX is written in ONNX: one rule per primitive.

A rule takes the layouts, the operands and the equation's parameters, and returns the results.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxrecipes.export.onnx.elementwise import (
    ELEMENTWISE,
    clamp,
    convert,
    elementwise,
    integer_pow,
    maximum,
    not_equal,
    rem,
    select_n,
    unary_steps,
)
from jaxrecipes.export.onnx.indexing import (
    concatenate,
    gather,
    pad,
    rev,
    split,
    stack,
    strided_slice,
)
from jaxrecipes.export.onnx.products import (
    convolution,
    dot_general,
    pool,
)
from jaxrecipes.export.onnx.tensors import Layouts, Shape, Tensor, is_static, tensor

Rule = Callable[..., list[Tensor]]

_NO_EFFECT = ("stop_gradient", "copy", "copy_p", "optimization_barrier", "reduce_precision")
_REDUCTIONS = {
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
    "reduce_sum": "ReduceSum",
}


def rule_of(primitive: str) -> Rule | None:
    """The rule for a primitive; None if there is none."""
    if primitive in _NO_EFFECT:
        return lambda layouts, x, *rest, **_: [x, *rest]
    if primitive in ELEMENTWISE:
        op = ELEMENTWISE[primitive]
        return lambda layouts, *xs, shape, **_: [elementwise(layouts, op, xs, shape)]
    if primitive in _REDUCTIONS:
        op = _REDUCTIONS[primitive]
        return lambda layouts, x, *, axes, **_: [_reduce(layouts, op, x, axes)]
    return _RULES.get(primitive)


def _reduce(layouts: Layouts, op: str, x: Tensor, axes: Sequence[int]) -> Tensor:
    if not x.is_whole:  # repeated elements count, too
        x = tensor(layouts.plain(x), x.shape)
    gone = [axis for at in axes for axis in x.merged[at]]
    places = [place for place, axis in enumerate(x.order) if axis in gone]
    graph = layouts.graph
    if op == "ReduceSum" or graph.opset >= 18:  # where the axes became an input
        sizes = [x.base[axis] for axis in gone]
        count = int(math.prod(sizes)) if is_static(tuple(sizes)) else None
        name = graph.node(op, x.name, graph.constant(np.array(places)), keepdims=0, count=count)
    else:
        name = graph.node(op, x.name, axes=places, keepdims=0)
    left = [axis for axis in range(len(x.base)) if axis not in gone]
    renamed = {axis: i for i, axis in enumerate(left)}
    return Tensor(
        shape=tuple(size for at, size in enumerate(x.shape) if at not in axes),
        name=name,
        base=tuple(x.base[axis] for axis in left),
        order=tuple(renamed[axis] for axis in x.order if axis in renamed),
        merged=tuple(
            tuple(renamed[axis] for axis in group)
            for at, group in enumerate(x.merged)
            if at not in axes
        ),
    )


def _reshape(layouts: Layouts, x: Tensor, *, new_sizes: Shape, **_: Any) -> list[Tensor]:
    return [layouts.reshape(x, tuple(new_sizes))]


def _same_elements(layouts: Layouts, x: Tensor, *, shape: Shape, **_: Any) -> list[Tensor]:
    return [layouts.reshape(x, tuple(shape))]


def _transpose(layouts: Layouts, x: Tensor, *, permutation: Any, **_: Any) -> list[Tensor]:
    return [layouts.transpose(x, permutation)]


def _broadcast_in_dim(
    layouts: Layouts, x: Tensor, *_: Tensor, shape: Shape, broadcast_dimensions: Any, **__: Any
) -> list[Tensor]:
    return [layouts.broadcast(x, tuple(shape), broadcast_dimensions)]


def _arg(op: str) -> Rule:
    def rule(layouts: Layouts, x: Tensor, *, axes: Any, shape: Shape, **_: Any) -> list[Tensor]:
        (axis,) = axes
        return [tensor(layouts.graph.node(op, layouts.plain(x), axis=axis, keepdims=0), shape)]

    return rule


def _cumsum(layouts: Layouts, x: Tensor, *, axis: int, reverse: bool, **_: Any) -> list[Tensor]:
    along = layouts.graph.constant(np.array(axis))
    name = layouts.graph.node("CumSum", layouts.plain(x), along, reverse=int(reverse))
    return [tensor(name, x.shape)]


def _top_k(layouts: Layouts, x: Tensor, *, k: int, axis: int = -1, **_: Any) -> list[Tensor]:
    many = layouts.graph.constant(np.array([k]))
    names = layouts.graph.node("TopK", layouts.plain(x), many, axis=axis, outputs=2)
    at = axis % len(x.shape)
    shape = (*x.shape[:at], k, *x.shape[at + 1 :])
    return [tensor(name, shape) for name in names]


def _iota(layouts: Layouts, *, dimension: int, shape: Shape, dtype: Any, **_: Any) -> list[Tensor]:
    raise ValueError("counting along the batch cannot be exported")


_RULES: dict[str, Rule] = {
    "argmax": _arg("ArgMax"),
    "argmin": _arg("ArgMin"),
    "broadcast_in_dim": _broadcast_in_dim,
    "clamp": clamp,
    "concatenate": concatenate,
    "conv_general_dilated": convolution,
    "convert_element_type": convert,
    "cumsum": _cumsum,
    "dot_general": dot_general,
    "expand_dims": _same_elements,
    "expm1": lambda layouts, x, **_: unary_steps(
        layouts, x, ("Exp",), ("Sub", None, np.float32(1.0))
    ),
    "gather": gather,
    "integer_pow": integer_pow,
    "iota": _iota,
    "max": maximum,
    "log1p": lambda layouts, x, **_: unary_steps(
        layouts, x, ("Add", None, np.float32(1.0)), ("Log",)
    ),
    "ne": not_equal,
    "pad": pad,
    "reduce_window_max": pool("MaxPool"),
    "reduce_window_sum": pool("AveragePool"),
    "rem": rem,
    "reshape": _reshape,
    "rev": rev,
    "rsqrt": lambda layouts, x, **_: unary_steps(layouts, x, ("Sqrt",), ("Reciprocal",)),
    "select_n": select_n,
    "slice": strided_slice,
    "split": split,
    "square": lambda layouts, x, **_: unary_steps(layouts, x, ("Mul", None, None)),
    "squeeze": _same_elements,
    "stack": stack,
    "top_k": _top_k,
    "transpose": _transpose,
}
