"""Fully sharded training (FSDP): parameters are whole only while the network computes with them.

Source: Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models",
2020 (stage 3); Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel",
2023.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding

from jaxrecipes.sharding import replicated, state_shardings

_CALLS = ("jit", "pjit", "checkpoint", "remat2", "custom_vjp_call", "custom_jvp_call")


def with_gathered_params(apply_fn: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """The network `apply_fn(params, batch_stats, inputs, *, hparams, train, key)`, computing on
    whole parameters and its device's part of the batch.

    Parameters are gathered from the devices once for the forward and once more for the backward
    pass, so that none stays complete in between, and their gradients are split like the parameters.
    One that the network only uses in another dtype (bfloat16) is gathered in that dtype, which
    halves the traffic and leaves no copy in that dtype behind. Otherwise the compiler would
    propagate the parameters' sharding into the activations, and move those instead. Nothing changes
    if the `fsdp` axis of the mesh has one device.
    """
    if mesh.shape["fsdp"] == 1:
        return apply_fn

    def gathering(params, batch_stats, inputs, *, hparams, train, key):
        def apply(params, batch_stats, inputs, hparams, key):
            return apply_fn(params, batch_stats, inputs, hparams=hparams, train=train, key=key)

        others = batch_stats, inputs, hparams, key
        dtypes = used_dtypes(lambda params: apply(params, *others), params)

        def on_whole(params, *others):
            return apply(_gathered(params, dtypes, mesh), *others)

        return jax.checkpoint(on_whole, policy=_all_but_gathered)(params, *others)

    return gathering


def used_dtypes(function: Callable[[Any], Any], params: Any) -> Any:
    """For each parameter the dtype that `function(params)` converts it to before anything else, or
    its own dtype if it is used as it is, or more than once: the gradients of several uses are
    added up in the parameter's own dtype.
    """
    jaxpr = jax.make_jaxpr(function)(params).jaxpr
    leaves, structure = jax.tree.flatten(params)
    found = []
    for leaf, var in zip(leaves, jaxpr.invars, strict=True):
        uses = _uses(jaxpr, var)
        found.append(uses[0] if len(uses) == 1 else leaf.dtype)
    return jax.tree.unflatten(structure, found)


def _uses(jaxpr: Any, var: Any) -> list[Any]:
    """The dtype of each use of a variable."""
    uses = [var.aval.dtype for output in jaxpr.outvars if output is var]
    for equation in jaxpr.eqns:
        for place, operand in enumerate(equation.invars):
            if operand is not var:
                continue
            inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
            if equation.primitive.name == "convert_element_type":
                uses.append(equation.params["new_dtype"])
            elif equation.primitive.name in _CALLS:
                inner = getattr(inner, "jaxpr", inner)
                uses += _uses(inner, inner.invars[place])
            else:
                uses.append(var.aval.dtype)
    return uses


def _gathered(params: Any, dtypes: Any, mesh: Mesh) -> Any:
    everywhere = replicated(mesh)
    constrain = jax.lax.with_sharding_constraint

    def gather(leaf: jax.Array, dtype: Any, split: NamedSharding) -> jax.Array:
        def fetch(leaf):
            # Split once more, so that it is converted before it is gathered.
            return constrain(constrain(leaf.astype(dtype), split), everywhere)

        def pull_back(_, grad):
            return (constrain(grad.astype(leaf.dtype), split),)

        whole = jax.custom_vjp(fetch)
        whole.defvjp(lambda leaf: (fetch(leaf), None), pull_back)
        return leaf if split == everywhere else whole(leaf)

    return jax.tree.map(gather, params, dtypes, state_shardings(params, mesh))


def _all_but_gathered(primitive: Any, *_: Any, **__: Any) -> bool:
    """The checkpointing policy: the forward pass keeps everything but the gathered parameters."""
    return primitive.name != "sharding_constraint"
