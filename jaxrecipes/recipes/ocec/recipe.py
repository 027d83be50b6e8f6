"""The OCEC recipe, open or closed eyes: its network, losses, metrics and augmentation as the step
needs them.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipes.data.augment.images import AugmentOps, augment_images, normalize
from jaxrecipes.data.augment.mix import MixOps, mix
from jaxrecipes.losses import bce_with_logits, focal_label_smooth_ce, mixed_loss
from jaxrecipes.metrics import BinaryCounts, roc_auc
from jaxrecipes.precision import Policy
from jaxrecipes.recipes.ocec.config import OcecRunConfig
from jaxrecipes.recipes.ocec.examples import pos_weight as class_pos_weight
from jaxrecipes.recipes.ocec.network import Ocec, check_image_size
from jaxrecipes.schedules import Schedule
from jaxrecipes.train.config import check_monitored
from jaxrecipes.train.hparams import collect
from jaxrecipes.train.recipe import Batch, DataInfo, Hparams, Recipe

CLASS_NAMES = ("closed", "open")


def check_config(config: OcecRunConfig) -> None:
    """Raises a ValueError for a config that could not train, or would select by a metric that does
    not exist.

    Images too small for the network, a token grid that does not divide them, a monitored metric
    that the recipe does not have or whose better end is the other one.
    """
    check_image_size(config.model, *config.data.image_size)
    losses = ("loss", f"loss/{config.loss.kind}")
    check_monitored(config, lower=losses, higher=("accuracy", "precision", "recall", "f1", "auc"))


def make_recipe(config: OcecRunConfig, data: DataInfo) -> Recipe:
    """The recipe of a config.

    Args:
      config: what to train.
      data: its training split gives the loss its pos_weight unless the config sets one.
    """
    model = Ocec(config.model, dtype=Policy(config.precision).compute_dtype)
    loss, augment = config.loss, config.augment

    def derive(found: Mapping[str, Schedule]) -> dict[str, float]:
        if loss.kind != "bce" or "pos_weight" in found:
            return {}
        labels = None if data.train is None else np.asarray(data.train.arrays["label"])
        return {"pos_weight": 1.0 if labels is None else class_pos_weight(labels)}

    hparams = collect(config, data.steps_per_epoch, derive=derive)
    augment_ops = AugmentOps(
        flip="flip_prob" in hparams,
        crop="crop_prob" in hparams,
        distort="distort_prob" in hparams,
        clahe="clahe_prob" in hparams,
        crop_padding=augment.crop_padding,
    )
    mix_ops = MixOps(mixup="mixup_prob" in hparams, cutmix="cutmix_prob" in hparams)

    def augment_batch(key: jax.Array, batch: Batch, hparams: Hparams) -> Batch:
        image_key, mix_key = jax.random.split(key)
        images = augment_images(image_key, batch["image"], hparams, ops=augment_ops)
        images, fields = mix(
            mix_key, images.astype(jnp.float32), batch["label"], hparams, ops=mix_ops
        )
        return batch | {"image": images} | fields

    def inputs(batch: Batch) -> jax.Array:
        return normalize(batch["image"], config.data.mean, config.data.std)

    def loss_terms(logits: jax.Array, batch: Batch, hparams: Hparams) -> dict[str, jax.Array]:
        def term(logits: jax.Array, labels: jax.Array) -> jax.Array:
            if loss.kind == "focal":
                return focal_label_smooth_ce(
                    logits,
                    labels,
                    smoothing=hparams["label_smoothing"],
                    gamma=hparams["focal_gamma"],
                )
            return bce_with_logits(
                logits, labels.astype(jnp.float32), pos_weight=hparams["pos_weight"]
            )

        if "mix_lambda" not in batch:
            return {loss.kind: term(logits, batch["label"])}
        labels, partners, weight = batch["label"], batch["label_mixed"], batch["mix_lambda"]
        return {loss.kind: mixed_loss(term, logits, labels, partners, weight)}

    def metrics(logits: jax.Array, batch: Batch, hparams: Hparams) -> dict[str, Any]:
        del hparams
        labels = batch["label"]
        if "mix_lambda" in batch:  # the dominant label of the mixture
            labels = jnp.where(batch["mix_lambda"] >= 0.5, labels, batch["label_mixed"])
        probs = jax.nn.sigmoid(logit_scale(config) * logits)
        return {"classification": BinaryCounts.from_probs(probs, labels, batch.get("mask"))}

    def pass_metrics(logits: np.ndarray, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
        return {
            "auc": roc_auc(arrays["label"], logits) if np.isfinite(logits).all() else float("nan")
        }

    return Recipe.from_linen(
        model,
        config,
        data,
        example=jax.ShapeDtypeStruct((2, *config.data.image_size, 3), jnp.float32),
        inputs=inputs,
        loss_terms=loss_terms,
        metrics=metrics,
        hparams=hparams,
        augment=augment_batch,
        pass_metrics=pass_metrics,
    )


def logit_scale(config: OcecRunConfig) -> float:
    """prob_open = sigmoid(scale * logit): the focal loss turns one logit z into the two scores (-z,
    z).
    """
    return 2.0 if config.loss.kind == "focal" else 1.0
