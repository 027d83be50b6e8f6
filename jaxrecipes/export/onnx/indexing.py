"""Slicing, indexing and concatenating arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrecipes.export.onnx.tensors import Layouts, Shape, Tensor, constant, tensor


def strided_slice(
    layouts: Layouts, x: Tensor, *, start_indices: Any, limit_indices: Any, strides: Any, **_: Any
) -> list[Tensor]:
    """Writes a slice at a fixed position."""
    steps = strides or (1,) * len(x.shape)
    parts = zip(range(len(steps)), start_indices, limit_indices, steps, strict=True)
    return [_sliced(layouts, x, list(parts))]


def _sliced(layouts: Layouts, x: Tensor, wanted: Sequence[tuple[int, Any, Any, int]]) -> Tensor:
    """Slices `x` along some axes, given as (axis, start, limit, step)."""
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


def split(layouts: Layouts, x: Tensor, *, sizes: Any, axis: int, **_: Any) -> list[Tensor]:
    """Splits into adjacent parts along one axis."""
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


def concatenate(
    layouts: Layouts, *xs: Tensor, dimension: int, shape: Shape, **_: Any
) -> list[Tensor]:
    """Concatenates, in the layout of the first operand that has one."""
    order = next((x.order for x in xs if not x.is_constant and x.is_split), range(len(shape)))
    held = [layouts.held(x, order) for x in xs]
    name = layouts.graph.node("Concat", *(x.name for x in held), axis=list(order).index(dimension))
    result = tensor(name, shape)
    return [Tensor(result.shape, None, "", name, result.base, tuple(order), result.merged)]


def stack(layouts: Layouts, *xs: Tensor, axis: int, shape: Shape, **_: Any) -> list[Tensor]:
    """Stacks along a new axis."""
    one = (*shape[:axis], 1, *shape[axis + 1 :])
    parts = [layouts.reshape(x, one) for x in xs]
    return concatenate(layouts, *parts, dimension=axis, shape=shape)


def pad(
    layouts: Layouts, x: Tensor, value: Tensor, *, padding_config: Any, shape: Shape, **_: Any
) -> list[Tensor]:
    """Pads with a constant, on both sides."""
    low, high, inside = zip(*padding_config, strict=True)
    if any(inside):
        raise ValueError("padding between elements cannot be exported")
    pads = layouts.graph.constant(np.array([*low, *high]))
    return [tensor(layouts.graph.node("Pad", layouts.plain(x), pads, layouts.plain(value)), shape)]


def rev(layouts: Layouts, x: Tensor, *, dimensions: Any, **_: Any) -> list[Tensor]:
    """Reverses the order along some axes."""
    ends = [(axis, -1, -x.shape[axis] - 1, -1) for axis in dimensions]
    shape = x.shape
    reversed_ = _sliced(layouts, x, ends)
    return [Tensor(shape, None, "", reversed_.name, shape, reversed_.order, reversed_.merged)]


def gather(
    layouts: Layouts,
    x: Tensor,
    indices: Tensor,
    *,
    dimension_numbers: Any,
    slice_sizes: Any,
    shape: Shape,
    **_: Any,
) -> list[Tensor]:
    """Writes a slice at a fixed position, a lookup of rows by number along one axis, or of one row
    per example.
    """
    numbers, graph = dimension_numbers, layouts.graph
    axes = tuple(numbers.start_index_map)
    collapsed = tuple(numbers.collapsed_slice_dims)
    if indices.array is not None:  # a slice at a fixed position is taken first
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
        # ONNX puts the axes of the indices in place of the axis; JAX puts them where offset_dims
        # leaves room.
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
