"""The OCEC recipe: open or closed eyes. Its network, losses, metrics and augmentation, wired for
the generic step.
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
from jaxrecipes.recipes.ocec.class_balance import pos_weight as class_pos_weight
from jaxrecipes.recipes.ocec.config import OcecRunConfig
from jaxrecipes.recipes.ocec.network import Ocec, check_image_size
from jaxrecipes.train.build import build_hparams
from jaxrecipes.train.recipe import Batch, DataInfo, Hparams, Recipe
from jaxrecipes.train.watched_metrics import check_monitored

CLASS_NAMES = ("closed", "open")
_MIX_PROBS, _MIX_ALPHAS = ("mixup_prob", "cutmix_prob"), ("mixup_alpha", "cutmix_alpha")


def check_config(config: OcecRunConfig) -> None:
    """Raises a ValueError for what could not train, or would select by a metric that is not there.

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
    pos_weight = loss.pos_weight
    if pos_weight is None:
        pos_weight = (
            1.0 if data.train is None else class_pos_weight(np.asarray(data.train.arrays["label"]))
        )
    own = {
        "dropout_rate": config.model.dropout,
        "drop_path_rate": config.drop_path_rate,
        f"loss_weight/{loss.kind}": 1.0,
        "flip_prob": augment.flip_prob,
        "distort_prob": augment.distort_prob,
        "clahe_prob": augment.clahe_prob,
        "crop_prob": augment.crop_prob,
        "mixup_prob": augment.mixup_prob,
        "cutmix_prob": augment.cutmix_prob,
    }
    # What is 0 and stays 0 is left out of the program.
    on = {name: value > 0 or name in config.schedules for name, value in own.items()}
    hparams = build_hparams(
        config,
        own
        | _loss_hparams(config, pos_weight)
        | {name: getattr(augment, name) for name in _MIX_ALPHAS},
        batch_size=config.data.batch_size,
        steps_per_epoch=data.steps_per_epoch,
    )
    off = {name for name, is_on in on.items() if not is_on}
    off |= {alpha for prob, alpha in zip(_MIX_PROBS, _MIX_ALPHAS, strict=True) if not on[prob]}
    hparams = {name: schedule for name, schedule in hparams.items() if name not in off}
    augment_ops = AugmentOps(
        flip=on["flip_prob"],
        crop=on["crop_prob"],
        distort=on["distort_prob"],
        clahe=on["clahe_prob"],
        crop_padding=augment.crop_padding,
    )
    mix_ops = MixOps(mixup=on["mixup_prob"], cutmix=on["cutmix_prob"])

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
        if "mix_lambda" in batch:  # the label that dominates the mixture
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


def _loss_hparams(config: OcecRunConfig, pos_weight: float) -> dict[str, float]:
    if config.loss.kind == "focal":
        return {
            "label_smoothing": config.loss.label_smoothing,
            "focal_gamma": config.loss.focal_gamma,
        }
    return {"pos_weight": pos_weight}


def logit_scale(config: OcecRunConfig) -> float:
    """prob_open = sigmoid(scale * logit): the focal loss turns one logit z into the two scores (-z,
    z).
    """
    return 2.0 if config.loss.kind == "focal" else 1.0
