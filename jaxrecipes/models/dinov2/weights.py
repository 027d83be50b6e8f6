"""DINOv2's weights: read from Hugging Face or from its authors' files, and written as both."""

import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from jaxrecipes.convert.file_fields import naming
from jaxrecipes.convert.rules import dump_tensors, load_tensors, unwrapped
from jaxrecipes.convert.weight_files import Published, write_huggingface
from jaxrecipes.convert.writer import save_torch
from jaxrecipes.models.dinov2.config import Dinov2Config
from jaxrecipes.models.dinov2.config_files import from_huggingface, from_shapes, to_huggingface
from jaxrecipes.models.dinov2.network import Dinov2
from jaxrecipes.models.dinov2.rules import clean, dinov2_rules, find_layout

SOURCES = """Weights are not downloaded. What can be read, as it is:
  - a folder of Hugging Face with config.json and model.safetensors (or pytorch_model.bin), such as
    the files of huggingface.co/facebook/dinov2-small (base, large, giant; with registers:
    facebook/dinov2-with-registers-small); with transformers installed:
    AutoModel.from_pretrained("facebook/dinov2-small").save_pretrained("dinov2-small")
  - the authors' own file, such as dinov2_vits14_pretrain.pth or dinov2_vits14_reg4_pretrain.pth,
    to which github.com/facebookresearch/dinov2 links
write_dinov2(folder, *read_dinov2(path)) turns any of them into a folder of Hugging Face's,
write_official(file, *read_dinov2(path)) into a file of the authors'."""

_FILES = Published(
    name="DINOv2",
    sources=SOURCES,
    folders=(("config.json", from_huggingface, ("model.safetensors", "pytorch_model.bin")),),
    clean=clean,
    find_layout=find_layout,
    from_shapes=from_shapes,
    within=("teacher", "model", "state_dict"),
)


def read_dinov2(
    path: str | os.PathLike[str], *, num_heads: int | None = None, use_torch: bool = False
) -> tuple[Dinov2Config, dict[str, Any]]:
    """The architecture and the parameters of a DINOv2 on disk.

    Args:
      path: a folder of Hugging Face, also with weights in several files; or a file of weights
        alone: safetensors or `torch.save`, with the keys of Hugging Face or of the authors, also of
        their training (blocks in chunks, heads beside the network).
      num_heads: instead of what the configuration says; where there is none, heads are 64 wide.
      use_torch: see `load_torch`.

    Returns:
      (config, params), float32 numpy arrays whatever the precision on disk.

    Raises:
      FileNotFoundError: nothing there; the message says where such weights come from.
      ConversionError: missing, unexpected or wrongly shaped tensors; names the first of each kind.
      ValueError: not a DINOv2.
    """
    config, state_dict = _FILES.read(path, use_torch=use_torch)
    with naming(path):
        config = dataclasses.replace(config, num_heads=num_heads or config.num_heads)
        return config, from_torch(state_dict, config)[1]


def write_dinov2(
    folder: str | os.PathLike[str], config: Dinov2Config, params: Mapping[str, Any]
) -> None:
    """Writes config.json and model.safetensors, as `transformers.AutoModel` reads them.

    Raises:
      ConversionError: parameters that are not those of `config`.
    """
    write_huggingface(folder, to_huggingface(config), to_torch(params, {}, config))


def write_official(
    file: str | os.PathLike[str], config: Dinov2Config, params: Mapping[str, Any]
) -> None:
    """Writes a state dict with the authors' keys, as `torch.load(weights_only=True)` reads it.

    Raises:
      ConversionError: parameters that are not those of `config`.
    """
    save_torch(file, dump_tensors(dinov2_rules(config, "official"), params))


def from_torch(
    state_dict: Mapping[str, np.ndarray], config: Mapping[str, Any] | Dinov2Config
) -> tuple[Dinov2, dict[str, Any], dict[str, Any]]:
    """(model, params, {}) of a state dict in either layout; see `jaxrecipes.convert`.

    `config` is a `Dinov2Config` or the content of Hugging Face's config.json.
    """
    config = _config(config)
    state_dict = clean(unwrapped(state_dict))
    rules = dinov2_rules(config, find_layout(state_dict))
    return Dinov2(config), load_tensors(rules, state_dict, _template(config)), {}


def to_torch(
    params: Mapping[str, Any],
    batch_stats: Mapping[str, Any],
    config: Mapping[str, Any] | Dinov2Config,
) -> dict[str, np.ndarray]:
    """The state dict of Hugging Face's `Dinov2Model`; see `jaxrecipes.convert`."""
    return dump_tensors(dinov2_rules(_config(config), "huggingface"), {**params, **batch_stats})


def _config(config: Mapping[str, Any] | Dinov2Config) -> Dinov2Config:
    return config if isinstance(config, Dinov2Config) else from_huggingface(config)


@functools.cache
def _template(config: Dinov2Config) -> dict[str, Any]:
    images = jax.ShapeDtypeStruct((1, config.image_size, config.image_size, 3), jnp.float32)
    return jax.eval_shape(Dinov2(config).init, jax.random.key(0), images)["params"]
