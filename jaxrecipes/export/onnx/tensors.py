"""Arrays of a traced program, and how an ONNX graph holds them.

JAX networks are NHWC and write a 1x1 convolution as a product over merged axes; ONNX convolutions
are NCHW. So transpositions and merges of adjacent axes are only noted, until an operator needs the
array in that form. Most of them then cancel, and none is left between two convolutions.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrecipes.export.onnx.graph import OnnxGraph

Shape = tuple[Any, ...]
"""Sizes: integers, or JAX's symbolic sizes if they depend on the batch."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An array of the traced program: a constant, or a tensor of the graph.

    Attributes:
      shape: of the array in the traced program.
      array: the value of a constant, broadcastable to `shape` with the same number of axes; None
        otherwise.
      label: the name of a constant in the file.
      name: the tensor in the graph; "" for a constant.
      base: sizes of the axes that the graph holds, in the program's order. Sizes of 1 may stand
        for any size of `shape`.
      order: for each axis of the graph's tensor, which axis of `base` it is.
      merged: for each axis of `shape`, the axes of `base` that it consists of.
    """

    shape: Shape
    array: np.ndarray | None = None
    label: str = ""
    name: str = ""
    base: Shape = ()
    order: tuple[int, ...] = ()
    merged: tuple[tuple[int, ...], ...] = ()

    @property
    def is_constant(self) -> bool:
        return self.array is not None

    @property
    def is_split(self) -> bool:
        """Whether each axis is a single axis of the graph's tensor."""
        return all(len(axes) == 1 for axes in self.merged)

    @property
    def is_whole(self) -> bool:
        """Whether the graph holds every element, so that none is repeated."""
        held = tuple(math.prod(self.base[axis] for axis in axes) for axes in self.merged)
        return held == self.shape

    @property
    def split(self) -> "Tensor":
        """The tensor with the axes and sizes that the graph holds."""
        merged = tuple((axis,) for axis in range(len(self.base)))
        return dataclasses.replace(self, shape=self.base, merged=merged)


def constant(array: Any, shape: Shape | None = None, label: str = "") -> Tensor:
    """A constant, broadcast to `shape`."""
    array = np.asarray(array)
    return Tensor(tuple(array.shape) if shape is None else tuple(shape), array, label)


def tensor(name: str, shape: Sequence[Any]) -> Tensor:
    """A tensor that the graph holds exactly as the program has it."""
    axes = range(len(shape))
    return Tensor(
        shape=tuple(shape),
        name=name,
        base=tuple(shape),
        order=tuple(axes),
        merged=tuple((axis,) for axis in axes),
    )


def is_static(shape: Shape) -> bool:
    """Whether no size depends on the batch."""
    return all(isinstance(size, int | np.integer) for size in shape)


class Layouts:
    """Puts tensors of a graph into the layout that an operator needs.

    Args:
      graph: where nodes are added.
      batch: JAX's symbolic size of the batch.
      first_input: an input of the graph, whose first axis is the batch.
    """

    def __init__(self, graph: OnnxGraph, batch: Any, first_input: str):
        self.graph, self._batch, self._first_input = graph, batch, first_input

    def plain(self, x: Tensor) -> str:
        """The name of the tensor in the program's layout, which is added to the graph if needed."""
        if x.array is not None:
            if is_static(x.shape):
                return self.graph.constant(np.broadcast_to(x.array, x.shape), x.label)
            return self._expanded(self.graph.constant(x.array, x.label), x.shape)
        name = self.graph.transpose(x.name, np.argsort(x.order).tolist())
        if not x.is_split:
            full = [math.prod(x.base[axis] for axis in axes) for axes in x.merged]
            name = self.graph.reshape(name, _wildcard(x.base), _wildcard(full))
        return name if x.is_whole else self._expanded(name, x.shape)

    def held(self, x: Tensor, order: Sequence[int]) -> Tensor:
        """A tensor of unmerged axes that the graph holds in a different order."""
        if not x.is_split or x.is_constant or not x.is_whole:
            x = tensor(self.plain(x), x.shape)
        place = {axis: i for i, axis in enumerate(x.order)}
        name = self.graph.transpose(x.name, [place[axis] for axis in order])
        return dataclasses.replace(x, name=name, order=tuple(order))

    def like(self, x: Tensor, other: Tensor) -> str:
        """`x` as an operand that broadcasts against `other`, which the graph holds as it is."""
        if x.array is not None:
            if x.array.ndim == 0:
                return self.graph.constant(x.array, x.label)
            sizes: list[int] = []
            for size, axes in zip(x.array.shape, other.merged, strict=True):
                if len(axes) == 1:
                    sizes.append(size)
                else:
                    sizes += [1] * len(axes) if size == 1 else [other.base[axis] for axis in axes]
            array = x.array.reshape(sizes).transpose(other.order)
            return self.graph.constant(array, x.label)
        if not x.shape:
            return x.name
        assert x.merged == other.merged
        moved = [axis for axis in other.order if not _is_one(x.base[axis])]
        if moved == [axis for axis in x.order if not _is_one(x.base[axis])]:
            if x.order == other.order:
                return x.name
            before, after = ([x.base[axis] for axis in t.order] for t in (x, other))
            return self.graph.reshape(x.name, _wildcard(before), _wildcard(after))
        place = {axis: i for i, axis in enumerate(x.order)}
        return self.graph.transpose(x.name, [place[axis] for axis in other.order])

    def reshape(self, x: Tensor, shape: Shape) -> Tensor:
        """Reshapes; merging adjacent axes or separating them again is only noted."""
        if x.array is not None:
            return self._reshaped_constant(x, shape)
        if x.is_whole:
            x = x.split
            if shape == x.shape:
                return x
            parts = _ones_changed(x.shape, shape) or _merges(shape, x.shape)
            if parts is not None:  # each axis becomes several or none
                order = tuple(axis for held in x.order for axis in parts[held])
                return self._held_reshape(x, shape, order)
            if (merged := _merges(x.shape, shape)) is not None:
                return dataclasses.replace(x, shape=shape, merged=merged)
        return self._plain_reshape(x, shape)

    def last_axis_whole(self, x: Tensor) -> Tensor:
        """The tensor with its last axis as a single axis of the graph's tensor."""
        if len(x.merged[-1]) == 1:
            return x
        first = x.merged[-1][0]
        joined = self._plain_reshape(x.split, (*x.base[:first], x.shape[-1]))
        merged = (*x.merged[:-1], (first,))
        return dataclasses.replace(joined, shape=x.shape, merged=merged)

    def _plain_reshape(self, x: Tensor, shape: Shape) -> Tensor:
        name = self.graph.reshape(self.plain(x), _wildcard(x.shape), _wildcard(shape))
        return tensor(name, shape)

    def _held_reshape(self, x: Tensor, shape: Shape, order: tuple[int, ...]) -> Tensor:
        before, after = (
            _wildcard([sizes[axis] for axis in axes])
            for sizes, axes in ((x.base, x.order), (shape, order))
        )
        name = self.graph.reshape(x.name, before, after)
        return dataclasses.replace(tensor(name, shape), order=order)

    def transpose(self, x: Tensor, permutation: Sequence[int]) -> Tensor:
        """Transposes, which is only noted."""
        shape = tuple(x.shape[axis] for axis in permutation)
        if x.array is not None:
            return dataclasses.replace(x, array=x.array.transpose(permutation), shape=shape)
        if not x.is_split:
            x = tensor(self.plain(x), x.shape)
        base = tuple(x.base[axis] for axis in permutation)
        order = tuple(list(permutation).index(axis) for axis in x.order)
        return dataclasses.replace(x, shape=shape, base=base, order=order)

    def broadcast(self, x: Tensor, shape: Shape, dimensions: Sequence[int]) -> Tensor:
        """Broadcasts: axis i of `x` becomes axis `dimensions[i]`; new sizes are only noted, and
        held as 1.
        """
        have = x.shape if x.array is None else x.array.shape
        sizes = dict(zip(dimensions, have, strict=True))
        small = tuple(sizes.get(axis, 1) for axis in range(len(shape)))
        if x.array is not None:
            return dataclasses.replace(x, array=x.array.reshape(small), shape=shape)
        if len(small) == len(x.shape):
            return dataclasses.replace(x, shape=shape) if x.is_split else self._wide(x, shape)
        return dataclasses.replace(self.reshape(x, small), shape=shape)

    def _wide(self, x: Tensor, shape: Shape) -> Tensor:
        return dataclasses.replace(tensor(self.plain(x), x.shape), shape=shape)

    def _reshaped_constant(self, x: Tensor, shape: Shape) -> Tensor:
        assert x.array is not None
        if x.array.size == 1:
            return constant(x.array.reshape((1,) * len(shape)), shape, x.label)
        ones = [size for size in x.shape if not _is_one(size)]
        if ones == [size for size in shape if not _is_one(size)]:  # only axes of size 1 differ
            held = iter(
                n for n, size in zip(x.array.shape, x.shape, strict=True) if not _is_one(size)
            )
            sizes = [1 if _is_one(size) else next(held) for size in shape]
            return constant(x.array.reshape(sizes), shape, x.label)
        if is_static(x.shape):
            return constant(np.broadcast_to(x.array, x.shape).reshape(shape), label=x.label)
        return self._plain_reshape(x, shape)

    def _expanded(self, name: str, shape: Shape) -> str:
        if is_static(shape):
            return self.graph.node("Expand", name, self.graph.constant(np.asarray(shape)))
        if any(size != self._batch for size in shape if not is_static((size,))):
            raise ValueError(
                f"an array is repeated to {shape}; only the batch itself can be dynamic"
            )
        whole = self.graph.node("Shape", self._first_input)
        batch = self.graph.node("Gather", whole, self.graph.constant(np.array([0])), axis=0)
        sizes = [
            self.graph.constant(np.array([size])) if is_static((size,)) else batch for size in shape
        ]
        return self.graph.node("Expand", name, self.graph.node("Concat", *sizes, axis=0))


def _wildcard(shape: Sequence[Any]) -> list[int]:
    """A shape for Reshape: -1 for the size that depends on the batch."""
    sizes = [size if is_static((size,)) else -1 for size in shape]
    if sizes.count(-1) > 1:
        raise ValueError(f"a shape of more than one dynamic size cannot be exported: {shape}")
    return sizes


def _is_one(size: Any) -> bool:
    return is_static((size,)) and int(size) == 1


def _ones_changed(before: Shape, after: Shape) -> list[tuple[int, ...]] | None:
    """For each axis of `before`, its axes of `after`, if only sizes of 1 come or go; otherwise
    None.
    """
    if [n for n in before if not _is_one(n)] != [n for n in after if not _is_one(n)]:
        return None
    parts: list[tuple[int, ...]] = []
    axes = iter(range(len(after)))
    last = max((axis for axis, size in enumerate(before) if not _is_one(size)), default=-1)
    for axis, size in enumerate(before):
        part: tuple[int, ...] = ()
        while not _is_one(size) and not (part and not _is_one(after[part[-1]])):
            part += (next(axes),)
        parts.append((*part, *axes) if axis == last else part)
    return parts if last >= 0 else None


def _merges(before: Shape, after: Shape) -> tuple[tuple[int, ...], ...] | None:
    """For each size of `after`, the adjacent axes of `before` that it merges; None if it is no such
    merge.
    """
    groups: list[tuple[int, ...]] = []
    axes = list(range(len(before)))
    for size in after:
        group: list[int] = []
        while not group or math.prod(before[axis] for axis in group) != size:
            if not axes:
                return None
            group.append(axes.pop(0))
        groups.append(tuple(group))
    rest = tuple(axes)
    if rest and not (groups and all(_is_one(before[axis]) for axis in rest)):
        return None
    return (*groups[:-1], (*groups[-1], *rest)) if groups else ()
