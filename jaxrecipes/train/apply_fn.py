"""A Linen or an NNX network as two functions, one that draws its weights and one that applies them,
and the latter as given devices compute it.

A network is called as `model(inputs, train=..., **rates)`. The rates are hyperparameters, such as
that of dropout: in training, an argument that is called like a hyperparameter is given its value.
"""

import contextlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from jaxrecipes.fsdp import with_gathered_params
from jaxrecipes.nn.attention import AttentionForm, attention_form, has_cudnn_attention
from jaxrecipes.nn.remat import remat_blocks

_CUDNN_CAPABILITY = 8.0  # its attention needs an Ampere GPU or a later one

Tree = Any
Hparams = Mapping[str, jax.Array]


class ApplyFn(Protocol):
    """What the rest of the library sees of a network."""

    def __call__(
        self,
        params: Tree,
        batch_stats: Tree,
        inputs: Any,
        *,
        hparams: Hparams,
        train: bool,
        key: jax.Array,
    ) -> tuple[Any, Tree]: ...


def linen_init(
    model: nn.Module, example: Any, **options: Any
) -> Callable[[jax.Array], tuple[Tree, Tree]]:
    """`key -> (params, batch_stats)` of a Linen module.

    Args:
      model: the network.
      example: shapes and dtypes of its inputs.
      **options: further arguments of its call.
    """

    def init(key: jax.Array) -> tuple[Tree, Tree]:
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), example)
        variables = model.init(key, zeros, **_train(model, False), **options)
        others = variables.keys() - {"params", "batch_stats"}
        if others:
            raise ValueError(
                f"the network keeps the collections {', '.join(sorted(others))}; a recipe's state "
                "has params and batch_stats alone"
            )
        return variables.get("params", {}), variables.get("batch_stats", {})

    return init


def linen_apply(model: nn.Module, *, fixed: Mapping[str, Any] | None = None) -> ApplyFn:
    """The `apply_fn` of a Linen module.

    Args:
      model: the network.
      fixed: further arguments of its call in training.
    """

    def apply_fn(params, batch_stats, inputs, *, hparams, train, key):
        variables = {"params": params, "batch_stats": batch_stats}
        if not train:
            return model.apply(variables, inputs, **_train(model, False)), batch_stats
        outputs, updated = model.apply(
            variables,
            inputs,
            **_train(model, True),
            **_rates(type(model), hparams),
            **(fixed or {}),
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        return outputs, updated.get("batch_stats", batch_stats)

    return apply_fn


def _rates(network: type, hparams: Hparams) -> dict[str, Any]:
    """The arguments of the network's call that are called like a hyperparameter."""
    arguments = inspect.signature(network.__call__).parameters
    return {name: hparams[name] for name in arguments if name in hparams}


def _train(model: nn.Module, train: bool) -> dict[str, Any]:
    """The argument `train`, for a network that differs between training and evaluation."""
    arguments = inspect.signature(type(model).__call__).parameters
    return {"train": train} if "train" in arguments else {}


def apply_on(
    mesh: Mesh, apply_fn: ApplyFn, *, attention: str = "auto", remat: bool = False
) -> ApplyFn:
    """A network as the devices of a mesh compute it: with sharded parameters gathered.

    Args:
      mesh: the devices.
      apply_fn: the network.
      attention: an `attention_form`, or "auto" for the one that suits the devices.
      remat: compute blocks anew in the backward pass, see `remat_blocks`.

    Raises:
      ValueError: the devices cannot compute that form.
      NoBlocksError: when it is called, that the network has no blocks to recompute.
    """
    form = _attention_form(attention, mesh)
    gathering = with_gathered_params(apply_fn, mesh)

    def placed(params, batch_stats, inputs, *, hparams, train, key):
        blocks = remat_blocks() if train and remat else contextlib.nullcontext()
        with attention_form(form), blocks:
            return gathering(params, batch_stats, inputs, hparams=hparams, train=train, key=key)

    return placed


def _attention_form(asked: str, mesh: Mesh) -> AttentionForm:
    device = mesh.devices.flat[0]
    if asked in ("plain", "recomputed"):
        return asked  # type: ignore[return-value]
    capable = float(getattr(device, "compute_capability", _CUDNN_CAPABILITY)) >= _CUDNN_CAPABILITY
    if device.platform in ("gpu", "cuda") and capable and has_cudnn_attention():
        return "cudnn"
    if asked == "cudnn":
        raise ValueError(
            f"attention is cudnn, which {device.device_kind} cannot compute: it needs an NVIDIA "
            "GPU of compute capability 8.0 or higher, and cuDNN; give --attention auto"
        )
    # Memory is what accelerators are short of; a CPU is short of arithmetic.
    return "plain" if device.platform == "cpu" else "recomputed"


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


def nnx_apply(model: nnx.Module) -> ApplyFn:
    """An NNX module whose only other state is batch statistics; it is called with `key`
    while training.

    The module takes `(inputs, *, train, **rates, key)`: randomness comes in as the key, not as
    `nnx.Rngs`, so that the step stays a function of (state, batch).
    """
    graphdef, param_state, stats_state = nnx.split(model, nnx.Param, ...)  # type: ignore[misc]

    def apply_fn(params, batch_stats, inputs, *, hparams, train, key):
        arguments = _rates(type(model), hparams) | {"key": key} if train else {}
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
