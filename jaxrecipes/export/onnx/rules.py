"""How each primitive of JAX is written in ONNX: one rule per primitive.

A rule takes the layouts, the operands and the equation's parameters, and returns its results.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxrecipes.export.onnx.tensors import Layouts, Shape, Tensor, constant, is_static, tensor

Rule = Callable[..., list[Tensor]]

_NO_EFFECT = ("stop_gradient", "copy", "copy_p", "optimization_barrier", "reduce_precision")
_ELEMENTWISE = {
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
_REDUCTIONS = {
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
    "reduce_sum": "ReduceSum",
}


def rule_of(primitive: str) -> Rule | None:
    """The rule of a primitive; None where there is none."""
    if primitive in _NO_EFFECT:
        return lambda layouts, x, *rest, **_: [x, *rest]
    if primitive in _ELEMENTWISE:
        op = _ELEMENTWISE[primitive]
        return lambda layouts, *xs, shape, **_: [elementwise(layouts, op, xs, shape)]
    if primitive in _REDUCTIONS:
        op = _REDUCTIONS[primitive]
        return lambda layouts, x, *, axes, **_: [_reduce(layouts, op, x, axes)]
    return _RULES.get(primitive)


def is_elementwise(primitive: str) -> bool:
    """Whether each element of the result depends on the same element of the operands."""
    others = ("convert_element_type", "integer_pow", "max", "ne", "rsqrt", "select_n", "square")
    return primitive in _ELEMENTWISE or primitive in others


def elementwise(layouts: Layouts, op: str, xs: Sequence[Tensor], shape: Shape) -> Tensor:
    """An operator on arrays of equal or broadcastable shapes, in the layout of the largest."""
    variables = [x for x in xs if not x.is_constant and x.shape]
    if not variables:  # scalars, or constants that are repeated along the batch
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


def _reduce(layouts: Layouts, op: str, x: Tensor, axes: Sequence[int]) -> Tensor:
    if not x.is_whole:  # what is repeated counts, too
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


def _unary_steps(layouts: Layouts, x: Tensor, *steps: tuple[Any, ...]) -> list[Tensor]:
    """Operators one after the other, each with the constants that follow it in its step."""
    for op, *others in steps:
        operands = [x if other is None else constant(other) for other in others] or [x]
        x = elementwise(layouts, op, operands, x.shape)
    return [x]


def _integer_pow(layouts: Layouts, x: Tensor, *, y: int, **_: Any) -> list[Tensor]:
    if y == 2:
        return _unary_steps(layouts, x, ("Mul", None, None))
    return _unary_steps(layouts, x, ("Pow", None, np.float32(y)))


def _not_equal(layouts: Layouts, x: Tensor, y: Tensor, *, shape: Shape, **_: Any) -> list[Tensor]:
    return [elementwise(layouts, "Not", [elementwise(layouts, "Equal", [x, y], shape)], shape)]


def _select_n(
    layouts: Layouts, which: Tensor, *cases: Tensor, shape: Shape, **_: Any
) -> list[Tensor]:
    if len(cases) != 2:
        raise ValueError(f"a choice among {len(cases)} arrays cannot be exported")
    return [elementwise(layouts, "Where", [which, cases[1], cases[0]], shape)]


def _clamp(layouts: Layouts, low: Tensor, x: Tensor, high: Tensor, **_: Any) -> list[Tensor]:
    return [
        elementwise(layouts, "Min", [_maximum(layouts, x, low, shape=x.shape)[0], high], x.shape)
    ]


def _maximum(layouts: Layouts, x: Tensor, y: Tensor, *, shape: Shape, **_: Any) -> list[Tensor]:
    variable, other = (y, x) if x.is_constant else (x, y)
    if other.array is not None and not np.any(other.array) and variable.shape == shape:
        return [elementwise(layouts, "Relu", [variable], shape)]
    return [elementwise(layouts, "Max", [x, y], shape)]


def _rem(layouts: Layouts, x: Tensor, y: Tensor, *, shape: Shape, **_: Any) -> list[Tensor]:
    a, b = (tensor(layouts.plain(t), t.shape) for t in (x, y))
    return [tensor(layouts.graph.node("Mod", a.name, b.name, fmod=1), shape)]


def _convert(layouts: Layouts, x: Tensor, *, new_dtype: Any, dtypes: Any, **_: Any) -> list[Tensor]:
    """Graphs compute in float32, int64 and bool, whatever the width in the program."""
    kinds = {"f": 1, "i": 7, "u": 7, "b": 9}  # of numpy, and TensorProto's numbers
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


def _slice(
    layouts: Layouts, x: Tensor, *, start_indices: Any, limit_indices: Any, strides: Any, **_: Any
) -> list[Tensor]:
    steps = strides or (1,) * len(x.shape)
    parts = zip(range(len(steps)), start_indices, limit_indices, steps, strict=True)
    return [_sliced(layouts, x, list(parts))]


def _sliced(layouts: Layouts, x: Tensor, wanted: Sequence[tuple[int, Any, Any, int]]) -> Tensor:
    """`x` from start to limit in steps along some axes, given as (axis, start, limit, step)."""
    wanted = [part for part in wanted if part[1:] != (0, x.shape[part[0]], 1)]
    if not wanted:
        return x
    if x.is_constant or not x.is_split or not x.is_whole:
        x = tensor(layouts.plain(x), x.shape)
    shape = list(x.shape)
    for axis, first, last, step in wanted:
        shape[axis] = -(-(last - first) // step)
    places = [x.order.index(axis) for axis, *_ in wanted]
    _, starts, limits, steps = zip(*wanted, strict=True)
    numbers = (layouts.graph.constant(np.array(n)) for n in (starts, limits, places, steps))
    name = layouts.graph.node("Slice", x.name, *numbers)
    return Tensor(tuple(shape), None, "", name, tuple(shape), x.order, x.merged)


def _split(layouts: Layouts, x: Tensor, *, sizes: Any, axis: int, **_: Any) -> list[Tensor]:
    if x.is_constant or not x.is_split or not x.is_whole:
        x = tensor(layouts.plain(x), x.shape)
    names = layouts.graph.node(
        "Split",
        x.name,
        layouts.graph.constant(np.array(sizes)),
        axis=x.order.index(axis),
        outputs=len(sizes),
    )
    parts = []
    for name, size in zip(names if len(sizes) > 1 else [names], sizes, strict=True):
        shape = (*x.shape[:axis], int(size), *x.shape[axis + 1 :])
        parts.append(Tensor(shape, None, "", name, shape, x.order, x.merged))
    return parts


def _concatenate(
    layouts: Layouts, *xs: Tensor, dimension: int, shape: Shape, **_: Any
) -> list[Tensor]:
    order = next((x.order for x in xs if not x.is_constant and x.is_split), range(len(shape)))
    held = [layouts.held(x, order) for x in xs]
    name = layouts.graph.node("Concat", *(x.name for x in held), axis=list(order).index(dimension))
    result = tensor(name, shape)
    return [Tensor(result.shape, None, "", name, result.base, tuple(order), result.merged)]


def _stack(layouts: Layouts, *xs: Tensor, axis: int, shape: Shape, **_: Any) -> list[Tensor]:
    one = (*shape[:axis], 1, *shape[axis + 1 :])
    parts = [layouts.reshape(x, one) for x in xs]
    return _concatenate(layouts, *parts, dimension=axis, shape=shape)


def _pad(
    layouts: Layouts, x: Tensor, value: Tensor, *, padding_config: Any, shape: Shape, **_: Any
) -> list[Tensor]:
    low, high, inside = zip(*padding_config, strict=True)
    if any(inside):
        raise ValueError("padding between elements cannot be exported")
    pads = layouts.graph.constant(np.array([*low, *high]))
    return [tensor(layouts.graph.node("Pad", layouts.plain(x), pads, layouts.plain(value)), shape)]


def _rev(layouts: Layouts, x: Tensor, *, dimensions: Any, **_: Any) -> list[Tensor]:
    ends = [(axis, -1, -x.shape[axis] - 1, -1) for axis in dimensions]
    shape = x.shape
    reversed_ = _sliced(layouts, x, ends)
    return [Tensor(shape, None, "", reversed_.name, shape, reversed_.order, reversed_.merged)]


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


def _dot_general(
    layouts: Layouts, x: Tensor, y: Tensor, *, dimension_numbers: Any, shape: Shape, **_: Any
) -> list[Tensor]:
    (x_sum, y_sum), (x_batch, y_batch) = dimension_numbers
    last = (len(x.shape) - 1,)
    if y.array is not None and not y_batch and len(y.shape) == 2 and tuple(x_sum) == last:
        kernel = np.broadcast_to(y.array, y.shape)
        kernel = kernel if tuple(y_sum) == (0,) else kernel.T
        if not x.is_constant:
            return [_linear(layouts, x, kernel, y.label)]
    x_free = [axis for axis in range(len(x.shape)) if axis not in (*x_sum, *x_batch)]
    y_free = [axis for axis in range(len(y.shape)) if axis not in (*y_sum, *y_batch)]
    batch = tuple(x.shape[axis] for axis in x_batch)
    rows, columns = (
        math.prod(t.shape[axis] for axis in axes) for t, axes in ((x, x_free), (y, y_free))
    )
    depth = math.prod(x.shape[axis] for axis in x_sum)
    left = layouts.transpose(x, (*x_batch, *x_free, *x_sum))
    right = layouts.transpose(y, (*y_batch, *y_sum, *y_free))
    left, right = (
        layouts.reshape(t, sizes)
        for t, sizes in ((left, (*batch, rows, depth)), (right, (*batch, depth, columns)))
    )
    name = layouts.graph.node("MatMul", layouts.plain(left), layouts.plain(right))
    return [layouts.reshape(tensor(name, (*batch, rows, columns)), tuple(shape))]


def _linear(layouts: Layouts, x: Tensor, kernel: np.ndarray, label: str) -> Tensor:
    """A product with a stored matrix `[in, out]` over the last axis.

    Over merged axes it is one over the axes themselves; of an image that the graph holds as
    `[B, C, H, W]` it is a 1x1 convolution.
    """
    graph, features = layouts.graph, kernel.shape[1]
    if not x.is_whole:
        x = tensor(layouts.plain(x), x.shape)
    x = layouts.last_axis_whole(x)
    rank, order = len(x.base), x.order
    if rank == 4 and x.order == (0, 3, 1, 2):
        weights = graph.constant(kernel.T[:, :, None, None], label)
        name = graph.node("Conv", x.name, weights, kernel_shape=[1, 1], rank=4)
    else:
        place = {axis: i for i, axis in enumerate(x.order)}
        source = graph.transpose(x.name, [place[axis] for axis in range(rank)])
        name = graph.node("MatMul", source, graph.constant(kernel, label), rank=rank)
        order = tuple(range(rank))
    return Tensor(
        shape=(*x.shape[:-1], features),
        name=name,
        base=(*x.base[:-1], features),
        order=order,
        merged=x.merged,
    )


def _convolution(
    layouts: Layouts,
    x: Tensor,
    kernel: Tensor,
    *,
    dimension_numbers: Any,
    window_strides: Any,
    padding: Any,
    lhs_dilation: Any,
    rhs_dilation: Any,
    feature_group_count: int,
    batch_group_count: int,
    shape: Shape,
    **_: Any,
) -> list[Tensor]:
    if batch_group_count != 1 or any(step != 1 for step in lhs_dilation):
        raise ValueError("a transposed convolution cannot be exported")
    numbers = dimension_numbers
    weights = layouts.transpose(kernel, numbers.rhs_spec)
    name = layouts.graph.node(
        "Conv",
        layouts.held(x, numbers.lhs_spec).name,
        layouts.plain(weights),
        kernel_shape=[int(size) for size in weights.shape[2:]],
        strides=list(window_strides),
        pads=[*(low for low, _ in padding), *(high for _, high in padding)],
        dilations=list(rhs_dilation),
        group=feature_group_count,
        rank=len(shape),
    )
    result = tensor(name, shape)
    return [Tensor(shape, None, "", name, result.base, numbers.out_spec, result.merged)]


def _pool(op: str) -> Rule:
    """Maxima or sums over windows of pixels of `[B, ..., C]`."""

    def rule(
        layouts: Layouts,
        x: Tensor,
        *,
        window_dimensions: Any,
        window_strides: Any,
        padding: Any,
        base_dilation: Any,
        window_dilation: Any,
        shape: Shape,
        **_: Any,
    ) -> list[Tensor]:
        ends = (window_dimensions[0], window_dimensions[-1])
        if ends != (1, 1) or {*base_dilation, *window_dilation} != {1}:
            raise ValueError("windows over the batch or channels, or with gaps, cannot be exported")
        order = (0, len(shape) - 1, *range(1, len(shape) - 1))
        low, high = zip(*padding[1:-1], strict=True)
        window = list(window_dimensions[1:-1])
        options = {} if op == "MaxPool" else {"count_include_pad": 1}
        name = layouts.graph.node(
            op,
            layouts.held(x, order).name,
            kernel_shape=window,
            strides=list(window_strides[1:-1]),
            pads=[*low, *high],
            **options,
        )
        result = tensor(name, shape)
        pooled = Tensor(shape, None, "", name, result.base, order, result.merged)
        if op == "MaxPool":
            return [pooled]
        return [
            elementwise(layouts, "Mul", [pooled, constant(np.float32(math.prod(window)))], shape)
        ]

    return rule


def _gather(
    layouts: Layouts,
    x: Tensor,
    indices: Tensor,
    *,
    dimension_numbers: Any,
    slice_sizes: Any,
    shape: Shape,
    **_: Any,
) -> list[Tensor]:
    """A part at a fixed place, rows by their numbers along one axis, or one row of each example."""
    numbers, graph = dimension_numbers, layouts.graph
    axes = tuple(numbers.start_index_map)
    collapsed = tuple(numbers.collapsed_slice_dims)
    if indices.array is not None:  # a part at a fixed place is cut out first
        table = np.broadcast_to(indices.array, indices.shape)
        single = table.ndim == 1
        fixed = {
            axis: int(column.flat[0])
            for axis, column in zip(axes, np.moveaxis(table, -1, 0), strict=True)
            if np.all(column == column.flat[0]) and (single or axis not in collapsed)
        }
        parts = [(axis, at, at + slice_sizes[axis], 1) for axis, at in fixed.items()]
        x = _sliced(layouts, x, parts)
        if single:
            return [layouts.reshape(x, tuple(shape))]
        indices = constant(table[..., [axis not in fixed for axis in axes]])
        axes = tuple(axis for axis in axes if axis not in fixed)
    whole = all(
        size == full
        for axis, (size, full) in enumerate(zip(slice_sizes, x.shape, strict=True))
        if axis not in (*axes, *numbers.operand_batching_dims)
    )
    if not whole or collapsed != axes:
        raise ValueError("a gather of slices that are not whole cannot be exported")
    kept = len(x.shape) - len(axes) - len(numbers.operand_batching_dims)
    if len(axes) == 1 and not numbers.operand_batching_dims:
        (axis,) = axes
        rows = layouts.reshape(indices, indices.shape[:-1])
        name = graph.node("Gather", layouts.plain(x), layouts.plain(rows), axis=axis)
        # ONNX puts the axes of the indices where the axis was; JAX where offset_dims leaves room.
        many = len(rows.shape)
        onnx_shape = (*x.shape[:axis], *rows.shape, *x.shape[axis + 1 :])
        offsets = [*range(axis), *range(axis + many, axis + many + kept - axis)]
        batch_axes = list(range(axis, axis + many))
        order = [
            offsets.pop(0) if at in numbers.offset_dims else batch_axes.pop(0)
            for at in range(len(shape))
        ]
        return [layouts.transpose(tensor(name, onnx_shape), order)]
    batching = tuple(numbers.operand_batching_dims)
    if batching == tuple(range(len(batching))) == tuple(numbers.start_indices_batching_dims):
        many = len(batching)
    else:
        many = 0 if not batching else -1
    if many < 0 or axes != tuple(range(many, many + len(axes))):
        raise ValueError("a gather along these axes cannot be exported")
    name = graph.node("GatherND", layouts.plain(x), layouts.plain(indices), batch_dims=many)
    wanted = len(indices.shape) - 1
    if tuple(numbers.offset_dims) != tuple(range(wanted, wanted + kept)):
        raise ValueError("a gather with its slices in front cannot be exported")
    return [tensor(name, shape)]


def _iota(layouts: Layouts, *, dimension: int, shape: Shape, dtype: Any, **_: Any) -> list[Tensor]:
    raise ValueError("counting along the batch cannot be exported")


_RULES: dict[str, Rule] = {
    "argmax": _arg("ArgMax"),
    "argmin": _arg("ArgMin"),
    "broadcast_in_dim": _broadcast_in_dim,
    "clamp": _clamp,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolution,
    "convert_element_type": _convert,
    "cumsum": _cumsum,
    "dot_general": _dot_general,
    "expand_dims": _same_elements,
    "expm1": lambda layouts, x, **_: _unary_steps(
        layouts, x, ("Exp",), ("Sub", None, np.float32(1.0))
    ),
    "gather": _gather,
    "integer_pow": _integer_pow,
    "iota": _iota,
    "max": _maximum,
    "log1p": lambda layouts, x, **_: _unary_steps(
        layouts, x, ("Add", None, np.float32(1.0)), ("Log",)
    ),
    "ne": _not_equal,
    "pad": _pad,
    "reduce_window_max": _pool("MaxPool"),
    "reduce_window_sum": _pool("AveragePool"),
    "rem": _rem,
    "reshape": _reshape,
    "rev": _rev,
    "rsqrt": lambda layouts, x, **_: _unary_steps(layouts, x, ("Sqrt",), ("Reciprocal",)),
    "select_n": _select_n,
    "slice": _slice,
    "split": _split,
    "square": lambda layouts, x, **_: _unary_steps(layouts, x, ("Mul", None, None)),
    "squeeze": _same_elements,
    "stack": _stack,
    "top_k": _top_k,
    "transpose": _transpose,
}
