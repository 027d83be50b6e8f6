"""A trained clip_iqa model as a file: from images and token ids to quality and consistency.

`image` is `[batch, 3, S, S]` in [0, 1], `tokens` `[batch, T]` int32, T being the context length;
both scores are `[batch]` in [0, 1].
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxrecipes.data.augment.images import standardize
from jaxrecipes.models.clip.network import IMAGE_MEAN, IMAGE_STD
from jaxrecipes.recipes.clip_iqa.config import IqaRunConfig
from jaxrecipes.recipes.clip_iqa.recipe import SCORES, make_recipe
from jaxrecipes.runs.exports import Deployed
from jaxrecipes.runs.trained import Trained
from jaxrecipes.train.recipe import DataInfo


def deployed(trained: Trained) -> Deployed:
    """Both towers and the heads.

    Raises:
      ValueError: the model takes embeddings that another network computed, which no file contains.
    """
    config, hparams = trained.config, trained.hparams
    if config.data.image_embeddings:
        raise ValueError(
            "this model was trained on image embeddings (data.image_embeddings), so it takes no "
            "images; jaxrecipes predict predicts from a parquet that has them"
        )
    recipe = make_recipe(
        dataclasses.replace(config, precision="float32"), DataInfo(steps_per_epoch=1)
    )

    def predict(variables: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        image = inputs["image"].transpose(0, 2, 3, 1)
        image = standardize(image, IMAGE_MEAN, IMAGE_STD)
        outputs, _ = recipe.apply_fn(
            *(variables["params"], variables["batch_stats"]),
            {"image": image, "tokens": inputs["tokens"]},
            hparams=hparams,
            train=False,
            key=jax.random.key(0),
        )
        return {name: outputs[name] for name in SCORES}

    return Deployed(function=predict, examples=_examples(config))


def _examples(config: IqaRunConfig) -> dict[str, np.ndarray]:
    """Texts of different lengths."""
    clip, rng = config.clip.architecture, np.random.default_rng(0)
    size, length, highest = (
        clip.vision.image_size,
        clip.text.context_length,
        clip.text.vocab_size - 1,
    )
    end = highest if clip.text.end_token_id is None else clip.text.end_token_id
    tokens = rng.integers(1, highest, (8, length))
    lengths = 2 + np.arange(8) % (length - 1)
    tokens[np.arange(length) >= lengths[:, None]] = 0
    tokens[np.arange(8), lengths - 1] = end
    return {"image": rng.random((8, 3, size, size), np.float32), "tokens": tokens.astype(np.int32)}
