"""Products, convolutions and pooling."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxrecipes.export.onnx.elementwise import elementwise
from jaxrecipes.export.onnx.tensors import Layouts, Shape, Tensor, constant, tensor


def dot_general(
    layouts: Layouts, x: Tensor, y: Tensor, *, dimension_numbers: Any, shape: Shape, **_: Any
) -> list[Tensor]:
    """Writes a product with stored weights if it is one, otherwise a MatMul over merged axes."""
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

    Merged axes are kept apart; for an image that the graph holds as `[B, C, H, W]`, it becomes a
    1x1 convolution.
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


def convolution(
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
    """Writes a convolution; operands are brought into the layout `[B, C, ...]`."""
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


def pool(op: str) -> Callable[..., list[Tensor]]:
    """Writes maxima or sums over windows of pixels of `[B, ..., C]`."""

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
