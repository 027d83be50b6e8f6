"""Augmentation of the face recipes, inside the step: reflecting people into new identities."""

import jax

from jaxrecipes.recipes.faces.reflect import reflect_people
from jaxrecipes.train.recipe import Batch, Hparams


def augment(key: jax.Array, batch: Batch, hparams: Hparams) -> Batch:
    """A training batch with some of its people reflected; unchanged without the hyperparameter."""
    if "reflect_prob" not in hparams:
        return batch
    return reflect_people(key, batch, hparams["reflect_prob"])
