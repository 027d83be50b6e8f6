"""CLIP's weights: read from Hugging Face, OpenAI or open_clip, written as Hugging Face's folder."""

import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any, Literal

import jax
import numpy as np
from jax import numpy as jnp

from jaxrecipes.convert.file_fields import naming
from jaxrecipes.convert.rules import dump_tensors, load_tensors, unwrapped
from jaxrecipes.convert.weight_files import Published, write_huggingface
from jaxrecipes.models.clip.config import Activation, ClipConfig
from jaxrecipes.models.clip.config_files import (
    from_huggingface,
    from_open_clip,
    from_shapes,
    to_huggingface,
)
from jaxrecipes.models.clip.network import Clip
from jaxrecipes.models.clip.rules import clean, clip_rules, find_layout

_WITHIN_TOWER = ("embeddings.", "encoder.", "pre_layrnorm.", "post_layernorm.", "final_layer_norm.")
SOURCES = """Weights are not downloaded. What can be read, as it is:
  - a folder of Hugging Face with config.json and model.safetensors (or pytorch_model.bin), such as
    the files of huggingface.co/openai/clip-vit-base-patch32; with transformers installed:
    CLIPModel.from_pretrained("openai/clip-vit-base-patch32").save_pretrained("clip-vit-b-32")
  - OpenAI's own file, such as the ViT-B-32.pt that their package `clip` downloads
  - a file or folder of open_clip, such as huggingface.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K
write_clip(folder, *read_clip(path)) turns any of them into a folder of Hugging Face's."""

_FILES = Published(
    name="CLIP",
    sources=SOURCES,
    folders=(
        ("config.json", from_huggingface, ("model.safetensors", "pytorch_model.bin")),
        (
            "open_clip_config.json",
            from_open_clip,
            ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
        ),
    ),
    clean=clean,
    find_layout=find_layout,
    from_shapes=from_shapes,
)


def read_clip(
    path: str | os.PathLike[str],
    *,
    activation: Activation | None = None,
    num_heads: tuple[int, int] | None = None,
    use_torch: bool = False,
) -> tuple[ClipConfig, dict[str, Any]]:
    """The architecture and the parameters of a CLIP on disk.

    Args:
      path: a folder of Hugging Face or of open_clip, also with weights in several files; or a file
        of weights alone: safetensors, a state dict of `torch.save`, or a TorchScript archive. The
        keys are Hugging Face's, or OpenAI's as in open_clip.
      activation: of both towers, instead of what the configuration says. A file of weights does not
        say; it is taken to be quick-GELU, which is right for OpenAI's and wrong for most others.
      num_heads: of the image and of the text tower, instead of what the configuration says; where
        there is none, heads are 64 wide.
      use_torch: see `load_torch`.

    Returns:
      (config, params), float32 numpy arrays whatever the precision on disk.

    Raises:
      FileNotFoundError: nothing there; the message says where such weights come from.
      ConversionError: missing, unexpected or wrongly shaped tensors; names the first of each kind.
      ValueError: not a CLIP made of two transformers.
    """
    config, state_dict = _FILES.read(path, use_torch=use_torch)
    changes: dict[str, Any] = {} if activation is None else {"activation": activation}
    heads = num_heads or (config.vision.num_heads, config.text.num_heads)
    config = dataclasses.replace(
        config,
        vision=dataclasses.replace(config.vision, num_heads=heads[0], **changes),
        text=dataclasses.replace(config.text, num_heads=heads[1], **changes),
    )
    with naming(path):
        return config, from_torch(state_dict, config)[1]


def read_clip_tower(
    path: str | os.PathLike[str], tower: Literal["vision", "text"], *, use_torch: bool = False
) -> tuple[ClipConfig, dict[str, Any]]:
    """One tower, from a whole CLIP or from a folder of Hugging Face that holds no more.

    Such a folder is what `CLIPTextModelWithProjection` and `CLIPVisionModelWithProjection` save;
    keys may lack their "text_model." or "vision_model." (transformers 5).

    Args:
      path: as in `read_clip`.
      tower: which of the two.
      use_torch: see `load_torch`.

    Returns:
      (config, params) with `params[tower]` alone; where the folder says nothing of the other tower,
      its part of `config` has no meaning.

    Raises:
      FileNotFoundError, ConversionError, ValueError: as `read_clip`.
    """
    config, state_dict = _FILES.read(path, use_torch=use_torch)
    state_dict = {
        f"{tower}_model.{key}" if key.startswith(_WITHIN_TOWER) else key: array
        for key, array in clean(unwrapped(state_dict)).items()
    }
    rules = clip_rules(config, find_layout(state_dict))
    own = [rule for rule in rules if rule.target.startswith(f"{tower}/")]
    others = {key for rule in rules if rule not in own for key in rule.sources}
    state_dict = {key: array for key, array in state_dict.items() if key not in others}
    return config, load_tensors(own, state_dict, {tower: _template(config)[tower]})


def write_clip(
    folder: str | os.PathLike[str], config: ClipConfig, params: Mapping[str, Any]
) -> None:
    """Writes config.json and model.safetensors, as `transformers.CLIPModel` reads them.

    Raises:
      ConversionError: parameters that are not those of `config`.
    """
    write_huggingface(folder, to_huggingface(config), to_torch(params, {}, config))


def from_torch(
    state_dict: Mapping[str, np.ndarray], config: Mapping[str, Any] | ClipConfig
) -> tuple[Clip, dict[str, Any], dict[str, Any]]:
    """(model, params, {}) of a state dict in either layout; see `jaxrecipes.convert`.

    `config` is a `ClipConfig` or the content of Hugging Face's config.json.
    """
    config = _config(config)
    state_dict = clean(unwrapped(state_dict))
    rules = clip_rules(config, find_layout(state_dict))
    return Clip(config), load_tensors(rules, state_dict, _template(config)), {}


def to_torch(
    params: Mapping[str, Any],
    batch_stats: Mapping[str, Any],
    config: Mapping[str, Any] | ClipConfig,
) -> dict[str, np.ndarray]:
    """The state dict of Hugging Face's `CLIPModel`; see `jaxrecipes.convert`."""
    return dump_tensors(clip_rules(_config(config), "huggingface"), {**params, **batch_stats})


def _config(config: Mapping[str, Any] | ClipConfig) -> ClipConfig:
    return config if isinstance(config, ClipConfig) else from_huggingface(config)


@functools.cache
def _template(config: ClipConfig) -> dict[str, Any]:
    size = config.vision.image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    token_ids = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    return jax.eval_shape(Clip(config).init, jax.random.key(0), images, token_ids)["params"]
