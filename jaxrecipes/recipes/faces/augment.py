"""Augmentation of the face recipes, inside the step: people reflected into made-up identities."""

import jax

from jaxrecipes.recipes.faces.data import data_config
from jaxrecipes.recipes.faces.reflect import reflect_people
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.recipe import Batch, Hparams


def augment_hparams(config: RunConfig) -> dict[str, float]:
    """The hyperparameters of `augment`; one that is 0 and stays 0 is left out."""
    prob = data_config(config).reflect_prob
    return {"reflect_prob": prob} if prob != 0 or "reflect_prob" in config.schedules else {}


def augment(key: jax.Array, batch: Batch, hparams: Hparams) -> Batch:
    """A training batch with some of its people reflected; as it is without the hyperparameter."""
    if "reflect_prob" not in hparams:
        return batch
    return reflect_people(key, batch, hparams["reflect_prob"])
