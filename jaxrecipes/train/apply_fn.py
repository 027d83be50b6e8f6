"""The model seam: a Linen or an NNX network as `apply_fn(params, batch_stats, inputs, *, hparams,
train, key)`.

A network is called as `model(inputs, train=..., **rates)`: the hyperparameters that it takes at
call time (dropout and drop-path rates) are named once, here.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
from flax import nnx

from jaxrecipes.train.recipe import ApplyFn


def linen_apply(
    model: nn.Module, *, rates: tuple[str, ...] = (), fixed: Mapping[str, Any] | None = None
) -> ApplyFn:
    """The seam of a Linen module; `rates` names the hyperparameters passed to `__call__` as keyword
    arguments in training, beside what is `fixed`.
    """

    def apply_fn(params, batch_stats, inputs, *, hparams, train, key):
        variables = {"params": params, "batch_stats": batch_stats}
        arguments = {name: hparams[name] for name in rates}
        if not train:
            return model.apply(variables, inputs, train=False), batch_stats
        outputs, updated = model.apply(
            variables,
            inputs,
            train=True,
            **arguments,
            **(fixed or {}),
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        return outputs, updated.get("batch_stats", batch_stats)

    return apply_fn


def nnx_split(model: nnx.Module) -> tuple[nnx.GraphDef, dict[str, Any], dict[str, Any]]:
    """`(graphdef, params, batch_stats)` of an NNX module, the last two as nested dicts with string
    keys.
    """
    graphdef, params, batch_stats = nnx.split(model, nnx.Param, ...)  # type: ignore[misc]
    return (
        graphdef,
        _string_keys(nnx.to_pure_dict(params)),
        _string_keys(nnx.to_pure_dict(batch_stats)),
    )


def nnx_apply(model: nnx.Module, *, rates: tuple[str, ...] = ()) -> ApplyFn:
    """The seam of an NNX module whose only other state is batch statistics; it is called with `key`
    while training.

    The module takes `(inputs, *, train, **rates, key)`: randomness comes in as the key, not as
    `nnx.Rngs`, so that the step stays a function of (state, batch).
    """
    graphdef, param_state, stats_state = nnx.split(model, nnx.Param, ...)  # type: ignore[misc]

    def apply_fn(params, batch_stats, inputs, *, hparams, train, key):
        arguments = {name: hparams[name] for name in rates} | {"key": key} if train else {}
        # Without copy=True a merge under jit changes variables of another trace level.
        network = nnx.merge(
            graphdef, _filled(param_state, params), _filled(stats_state, batch_stats), copy=True
        )
        outputs = network(inputs, train=train, **arguments)
        _, _, new_stats = nnx.split(network, nnx.Param, ...)  # type: ignore[misc]
        return outputs, _string_keys(nnx.to_pure_dict(new_stats)) if train else batch_stats

    return apply_fn


def _string_keys(tree: Any) -> Any:
    return {str(k): _string_keys(v) for k, v in tree.items()} if isinstance(tree, Mapping) else tree


def _filled(state: nnx.State, values: Mapping[str, Any]) -> nnx.State:
    """A copy of `state` that holds the arrays of `values`, whose keys are the state's as
    strings.
    """
    filled = jax.tree.map(lambda leaf: leaf, state)
    nnx.replace_by_pure_dict(filled, nnx.restore_int_paths(dict(values)))
    return filled
