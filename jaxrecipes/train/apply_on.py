"""A recipe's network as given devices compute it."""

import contextlib

from jax.sharding import Mesh

from jaxrecipes.fsdp import with_gathered_params
from jaxrecipes.nn.attention_forms import (
    AttentionForm,
    attention_form,
    has_cudnn_attention,
)
from jaxrecipes.nn.remat import remat_blocks
from jaxrecipes.train.apply_fn import ApplyFn
from jaxrecipes.train.recipe import Recipe

_CUDNN_CAPABILITY = 8.0  # its attention needs an Ampere GPU or a later one


def apply_on(recipe: Recipe, mesh: Mesh) -> ApplyFn:
    """The `apply_fn` of a recipe on a mesh: it gathers sharded parameters, recomputes blocks in the
    backward pass if `recipe.remat` says so, and computes attention in the form that
    `recipe.attention` says, or that suits the devices.

    Raises:
      ValueError: the devices cannot compute that form.
      NoBlocksError: when it is called, that the network has no blocks to recompute.
    """
    form = _attention_form(recipe.attention, mesh)
    gathering = with_gathered_params(recipe.apply_fn, mesh)

    def apply_fn(params, batch_stats, inputs, *, hparams, train, key):
        blocks = remat_blocks() if train and recipe.remat else contextlib.nullcontext()
        with attention_form(form), blocks:
            return gathering(params, batch_stats, inputs, hparams=hparams, train=train, key=key)

    return apply_fn


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
