"""A trained OCEC model as a file: from `images` `[batch, 3, H, W]`, RGB in [0, 1], to `prob_open`
`[batch]`.
"""

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxrecipes.data.augment.images import standardize
from jaxrecipes.recipes.ocec.config import OcecRunConfig
from jaxrecipes.recipes.ocec.network import Ocec
from jaxrecipes.recipes.ocec.recipe import logit_scale
from jaxrecipes.runs.exports import Deployed
from jaxrecipes.runs.trained import Trained


def deployed(trained: Trained) -> Deployed:
    """The network, from an RGB image to the probability that the eye is open."""
    config = trained.config
    size, mean, std = config.data.image_size, config.data.mean, config.data.std
    facts = {
        "model_config": json.dumps(vars(config.model)),
        "image_size": json.dumps(size),
        "label_map": json.dumps({"0": "closed", "1": "open"}),
        "normalization": json.dumps({"mean": mean, "std": std, "in_graph": True}),
        "logit_scale": str(logit_scale(config)),
    }
    images = np.random.default_rng(0).random((8, 3, *size), np.float32)
    return Deployed(function=predict_fn(config), examples={"images": images}, metadata=facts)


def predict_fn(config: OcecRunConfig) -> Callable[[Any, dict[str, Any]], dict[str, Any]]:
    """`(variables, {"images": [B, 3, H, W]}) -> {"prob_open": [B]}`."""
    network, scale = Ocec(config.model), logit_scale(config)

    def predict(variables: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        images = inputs["images"].transpose(0, 2, 3, 1)
        images = standardize(images, config.data.mean, config.data.std)
        logits: Any = network.apply(variables, images, train=False)
        return {"prob_open": jax.nn.sigmoid(scale * logits)}

    return predict
