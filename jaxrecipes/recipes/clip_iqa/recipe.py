"""The clip_iqa recipe: network, losses, metrics and augmentation, wired for the generic step."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipes.correlation import agreement, plcc
from jaxrecipes.data.augment.images import normalize, random_flip
from jaxrecipes.data.augment.random_resized_crop import random_resized_crop, resize_boxes
from jaxrecipes.losses import mean_squared_error
from jaxrecipes.models.clip.network import IMAGE_MEAN, IMAGE_STD
from jaxrecipes.precision import Policy
from jaxrecipes.recipes.clip_iqa.config import IqaRunConfig
from jaxrecipes.recipes.clip_iqa.freezing import INERT, freezing_plan
from jaxrecipes.recipes.clip_iqa.network import ClipIqa
from jaxrecipes.recipes.clip_iqa.pretrained import check_weights, pretrained
from jaxrecipes.train.build import build_optimizer
from jaxrecipes.train.config import check_monitored
from jaxrecipes.train.hparams import collect
from jaxrecipes.train.recipe import Batch, DataInfo, Hparams, Recipe, Stage

SCORES = ("quality", "consistency")
MOS_SCALE = 5.0
"""Opinion scores are 0 to this; the network's are 0 to 1."""
_RATES = ("dropout_rate", "residual_scale_q", "residual_scale_c", "refinement_dropout_rate")
_INPUTS = ("image", "image_embedding", "tokens", "text_embedding", "text_pooled")


def check_config(config: IqaRunConfig) -> None:
    """Raises a ValueError for what could not train, or would select by a metric that is not there.

    A published size without weights is one, weights that are not there a FileNotFoundError; both
    say where they come from.
    """
    elsewhere = config.init_from is not None or config.first_stage is not None
    check_weights(config.clip, start_elsewhere=elsewhere)
    explained = ("explanation",) if config.loss.explanations else ()
    terms = [f"loss/{term}" for term in (*SCORES, *explained)]
    errors = [f"{figure}_{score}" for figure in ("rmse", "mae") for score in SCORES]
    correlations = [
        f"{figure}_{score}" for figure in ("srocc", "plcc", "krocc") for score in SCORES
    ]
    check_monitored(
        config,
        lower=["loss", *terms, *errors, *(f"{error}_5" for error in errors)],
        higher=[*correlations, "srocc_mean"],
    )


def make_recipe(config: IqaRunConfig, data: DataInfo) -> Recipe:
    """The recipe of a config."""
    heads, loss, augment = config.heads, config.loss, config.augment
    model = ClipIqa(config.network, Policy(config.precision).compute_dtype)
    plan = freezing_plan(config, steps_per_epoch=data.steps_per_epoch)
    hparams = collect(
        config,
        data.steps_per_epoch,
        restarts=[start for start, _ in plan] if config.freeze.restart else (),
    )
    rates = [name for name in _RATES if name in hparams]
    inert = (INERT,) if heads.refinement else ()

    def init(key: jax.Array) -> tuple[Any, Any]:
        return model.init_params(key), {}

    def apply_fn(params, batch_stats, inputs, *, hparams, train, key):
        outputs = model.apply(
            {"params": params},
            inputs,
            train=train,
            rngs={"dropout": key},
            **{name: hparams[name] for name in rates},
        )
        return outputs, batch_stats

    def augment_batch(key: jax.Array, batch: Batch, hparams: Hparams) -> Batch:
        if not augment.enabled or "image" not in batch:
            return batch
        images, size = batch["image"], config.network.clip.vision.image_size
        stored = jnp.full((len(images), 2), jnp.array(images.shape[1:3]), jnp.int32)
        crop_key, flip_key = jax.random.split(key)
        images = random_resized_crop(
            crop_key,
            images,
            batch.get("image_size", stored),
            scale=(hparams["crop_scale_min"], hparams["crop_scale_max"]),
            size=(size, size),
        )
        return batch | {"image": random_flip(flip_key, images, hparams["flip_prob"])}

    def as_evaluated(images: jax.Array) -> jax.Array:
        """What evaluation sees of images that are stored to be cropped."""
        size = config.network.clip.vision.image_size
        if images.shape[1:3] == (size, size):
            return images
        share = size / (config.data.eval_size or size)
        stored = jnp.array(images.shape[1:3], jnp.float32)
        box = jnp.concatenate([stored * (1.0 - share) / 2.0, stored * share])
        return resize_boxes(images, jnp.tile(box, (len(images), 1)), size=(size, size))

    def inputs(batch: Batch) -> dict[str, jax.Array]:
        names = (*_INPUTS, "explanation_tokens") if loss.explanations else _INPUTS
        given = {name: batch[name] for name in names if name in batch}
        if "image" in given:
            given["image"] = as_evaluated(given["image"])
            given["image"] = normalize(given["image"], IMAGE_MEAN, IMAGE_STD)
        return given

    def loss_terms(outputs: Any, batch: Batch, hparams: Hparams) -> dict[str, jax.Array]:
        share = hparams["label_smoothing"]
        terms = {
            name: (outputs[name] - ((1.0 - share) * batch[name] + share * 0.5)) ** 2
            for name in SCORES
        }
        if loss.explanations:
            pair = outputs["rationale"], outputs["rationale_target"]
            terms["explanation"] = mean_squared_error(*pair) * batch.get("has_explanation", 1.0)
        return terms

    def pass_metrics(outputs: Any, arrays: Mapping[str, Any]) -> dict[str, float]:
        return score_metrics(config, outputs, arrays)

    restart = config.freeze.restart
    return Recipe.from_config(
        config,
        data,
        init=init,
        pretrained=pretrained(config.clip),
        apply_fn=apply_fn,
        inputs=inputs,
        loss_terms=loss_terms,
        hparams=hparams,
        make_tx=build_optimizer(config.optim, inert=inert),
        augment=augment_batch,
        pass_metrics=pass_metrics,
        frozen=plan[0][1],
        later_stages=tuple(
            Stage(first_step=start, frozen=rules, restart=restart) for start, rules in plan[1:]
        ),
    )


def score_metrics(
    config: IqaRunConfig, outputs: Mapping[str, Any], arrays: Mapping[str, Any]
) -> dict[str, float]:
    """Agreement of predictions and opinion scores.

    Args:
      config: `plcc_fit` adds the linear correlation after that fit, named after it.
      outputs: `quality` and `consistency`, `[N]`.
      arrays: the same of the opinions, in [0, 1].

    Returns:
      `srocc_`, `plcc_`, `krocc_`, `rmse_` and `mae_` of each score, the errors also in the units of
      the opinions as `_5`, and `srocc_mean`; NaN where a correlation is not defined.
    """
    found: dict[str, float] = {}
    for score in SCORES:
        pred, target = np.asarray(outputs[score]), np.asarray(arrays[score])
        for figure, value in agreement(pred, target).items():
            found[f"{figure}_{score}"] = value
            if figure in ("rmse", "mae"):
                found[f"{figure}_{score}_5"] = value * MOS_SCALE
        if config.plcc_fit is not None:
            found[f"plcc_{score}_{config.plcc_fit}"] = plcc(pred, target, fit=config.plcc_fit)
    found["srocc_mean"] = float(np.mean([found[f"srocc_{score}"] for score in SCORES]))
    return found
