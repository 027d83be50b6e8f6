"""From a JAX function to an ONNX model: the function is traced, its equations become nodes.

What depends only on the weights is computed here and stored. Nothing here is specific to a network:
the rules are for primitives (`rules`) and for layers of this library (`layers`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import export
from jax.extend import core

from jaxrecipes.export.onnx.elementwise import is_elementwise
from jaxrecipes.export.onnx.folding import fold
from jaxrecipes.export.onnx.graph import MIN_OPSET, OnnxGraph
from jaxrecipes.export.onnx.layers import layer_of
from jaxrecipes.export.onnx.rules import rule_of
from jaxrecipes.export.onnx.tensors import Layouts, Tensor, constant, is_static, tensor

_CALLS = {"jit": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}
_CALLS |= {"closed_call": "call_jaxpr", "remat2": "jaxpr", "checkpoint": "jaxpr"}
_LOOPS = ("while", "scan", "cond")


def onnx_model(
    function: Callable[[Any, dict[str, jax.Array]], dict[str, jax.Array]],
    variables: Any,
    inputs: Mapping[str, jax.ShapeDtypeStruct],
    *,
    opset: int = MIN_OPSET,
    metadata: Mapping[str, str] | None = None,
) -> Any:
    """The `onnx.ModelProto` of `inputs -> function(variables, inputs)`, with a dynamic batch size.

    Args:
      function: takes the weights and arrays `[B, ...]` by name, and returns arrays `[B, ...]` by
        name. It must be traceable for any B, and is written in float32, whatever precision it
        computes in.
      variables: nested dicts of arrays, which are stored in the file under their paths.
      inputs: shape and dtype of one example of each input.
      opset: version of ONNX's operators.
      metadata: strings to store in the file.

    Raises:
      ImportError: onnx is not installed.
      ValueError: the opset is not supported, or the function contains something that has no
        counterpart in ONNX; the message names it.
    """
    graph = OnnxGraph(opset=opset)
    (batch,) = export.symbolic_shape("batch")
    given = {
        name: jax.ShapeDtypeStruct((batch, *one.shape), one.dtype) for name, one in inputs.items()
    }
    closed, outputs = jax.make_jaxpr(function, return_shape=True)(variables, given)
    weights = [
        constant(leaf, label=jax.tree_util.keystr(path, simple=True, separator="."))
        for path, leaf in jax.tree_util.tree_flatten_with_path(variables)[0]
    ]
    layouts = Layouts(graph, batch, next(iter(given)))
    arguments = [_as_input(graph, name, given[name]) for name in sorted(given)]
    results = _run(layouts, closed.jaxpr, list(map(constant, closed.consts)), weights + arguments)
    names = dict(zip(sorted(outputs), map(layouts.plain, results), strict=True))
    fold(graph, outputs=set(names.values()))

    def described(array: jax.ShapeDtypeStruct) -> tuple[np.dtype, list[int | str]]:
        return np.dtype(array.dtype), [n if is_static((n,)) else "batch" for n in array.shape]

    computed = {
        name: (names[name], _kept_dtype(array.dtype), described(array)[1])
        for name, array in outputs.items()
    }
    return graph.model(
        inputs={name: described(array) for name, array in given.items()},
        outputs=computed,
        metadata=metadata or {},
    )


def _as_input(graph: OnnxGraph, name: str, array: jax.ShapeDtypeStruct) -> Tensor:
    integer = jax.dtypes.issubdtype(array.dtype, np.integer) and array.dtype != np.int64
    return tensor(graph.node("Cast", name, to=7) if integer else name, array.shape)


def _kept_dtype(dtype: Any) -> np.dtype:
    kind = "f" if jax.dtypes.issubdtype(dtype, np.floating) else np.dtype(dtype).kind
    return np.dtype({"f": np.float32, "b": np.bool_}.get(kind, np.int64))


def _run(
    layouts: Layouts, jaxpr: core.Jaxpr, consts: Sequence[Tensor], arguments: Sequence[Tensor]
) -> list[Tensor]:
    """Writes the equations that the results depend on, and returns the results."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))

    def read(atom: Any) -> Tensor:
        return constant(atom.val) if isinstance(atom, core.Literal) else values[atom]

    for equation in _needed(jaxpr):
        results = _write(layouts, equation, [read(atom) for atom in equation.invars])
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _needed(jaxpr: core.Jaxpr) -> list[Any]:
    wanted = {atom for atom in jaxpr.outvars if not isinstance(atom, core.Literal)}
    kept = []
    for equation in reversed(jaxpr.eqns):
        if wanted.intersection(equation.outvars):
            kept.append(equation)
            wanted.update(a for a in equation.invars if not isinstance(a, core.Literal))
    return kept[::-1]


def _write(layouts: Layouts, equation: Any, xs: list[Tensor]) -> list[Tensor]:
    name, params = equation.primitive.name, equation.params
    if name in _CALLS:
        call = params[_CALLS[name]]
        inner, consts = (call.jaxpr, call.consts) if hasattr(call, "jaxpr") else (call, [])
        if (layer := layer_of(inner)) is not None and not all(x.is_constant for x in xs):
            return [layer(layouts, inner, *xs)]
        return _run(layouts, inner, list(map(constant, consts)), xs)
    if name == "platform_index":  # of a layer's formulations, the one for no particular platform
        return [constant(np.int32(0))]
    if name == "cond" and "branches_platforms" in params:
        default = params["branches"][params["branches_platforms"].index(None)]
        return _run(layouts, default.jaxpr, list(map(constant, default.consts)), xs[1:])
    shape = tuple(equation.outvars[0].aval.shape)
    if (computed := _computed(equation, xs)) is not None:
        return computed
    rule = rule_of(name)
    if rule is None:
        what = "a loop or branch" if name in _LOOPS else "an operation"
        raise ValueError(
            f"the network contains {what} that has no rule for ONNX: {name!r}; write it in other "
            "operations, or export as stablehlo"
        )
    dtypes = [atom.aval.dtype for atom in equation.invars]
    return rule(layouts, *xs, **{"shape": shape, **params, "dtypes": dtypes})


_SPREAD = ("broadcast_in_dim", "reshape", "transpose")  # on constants, so left to the layouts


def _computed(equation: Any, xs: Sequence[Tensor]) -> list[Tensor] | None:
    """The results of an equation whose operands are all constant; None otherwise, or if they depend
    on the batch size.
    """
    constants = [x.array for x in xs if x.array is not None]
    if len(constants) < len(xs) or (xs and equation.primitive.name in _SPREAD):
        return None
    shapes = [tuple(var.aval.shape) for var in equation.outvars]
    if all(map(is_static, shapes)):
        arrays = [np.broadcast_to(a, x.shape) for a, x in zip(constants, xs, strict=True)]
    elif is_elementwise(equation.primitive.name):  # the same for all examples
        arrays = list(np.broadcast_arrays(*constants))
    else:
        return None
    found = equation.primitive.bind(*arrays, **equation.params)
    results = found if equation.primitive.multiple_results else [found]
    labels = {x.label for x in xs if x.label}
    label = labels.pop() if len(labels) == 1 else ""
    return [constant(result, shape, label) for result, shape in zip(results, shapes, strict=True)]
