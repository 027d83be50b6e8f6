"""A network whose parameters are split over devices: each is gathered where it is used (FSDP)."""

import dataclasses
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding

from jaxrecipes.sharding import replicated, state_shardings
from jaxrecipes.train.recipe import Recipe


def with_gathered_params(recipe: Recipe, mesh: Mesh) -> Recipe:
    """The recipe whose network computes on whole parameters and its device's part of the batch.

    Parameters are gathered from the devices once for the forward and once more for the backward
    pass, so that none stays whole in between, and their gradients are split as they are themselves
    (Zhao et al. 2023; ZeRO-3). Left to itself the compiler would carry the parameters' splits on
    into the activations, and move those instead.

    Args:
      recipe: as for one device.
      mesh: the devices; nothing changes where its `fsdp` axis has one.
    """
    if mesh.shape["fsdp"] == 1:
        return recipe

    def apply_fn(params, batch_stats, inputs, *, hparams, train, key):
        def on_whole(params, batch_stats, inputs, hparams, key):
            return recipe.apply_fn(
                _gathered(params, mesh), batch_stats, inputs, hparams=hparams, train=train, key=key
            )

        return jax.checkpoint(on_whole, policy=_all_but_gathered)(
            params, batch_stats, inputs, hparams, key
        )

    return dataclasses.replace(recipe, apply_fn=apply_fn)


def _gathered(params: Any, mesh: Mesh) -> Any:
    everywhere = replicated(mesh)

    def gather(leaf: jax.Array, split: NamedSharding) -> jax.Array:
        def fetch(leaf):
            return jax.lax.with_sharding_constraint(leaf, everywhere)

        whole = jax.custom_vjp(fetch)
        whole.defvjp(
            lambda leaf: (fetch(leaf), None),
            lambda _, grad: (jax.lax.with_sharding_constraint(grad, split),),
        )
        return leaf if split == everywhere else whole(leaf)

    return jax.tree.map(gather, params, state_shardings(params, mesh))


def _all_but_gathered(primitive: Any, *_: Any, **__: Any) -> bool:
    """What the forward pass keeps for the backward pass."""
    return primitive.name != "sharding_constraint"
