"""The face3d recipe: side view to frontal embedding. Its network, losses and metrics, wired for the
generic step.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrecipes.losses import cosine_loss, cosine_similarity, difficulty_weights, mean_squared_error
from jaxrecipes.metrics import Mean
from jaxrecipes.precision import Policy
from jaxrecipes.recipes.face3d.config import Face3DRunConfig, LossConfig
from jaxrecipes.recipes.face3d.network import face3d, inert_parameters
from jaxrecipes.recipes.faces.augment import augment
from jaxrecipes.recipes.faces.pose_text_source import (
    check_clip,
    read_table,
    with_table,
    without_table,
)
from jaxrecipes.recipes.faces.report import retrieval_metrics, seed_tag
from jaxrecipes.train.apply_fn import linen_apply, linen_init
from jaxrecipes.train.build import build_optimizer
from jaxrecipes.train.config import check_monitored
from jaxrecipes.train.hparams import collect
from jaxrecipes.train.recipe import Batch, DataInfo, Hparams, Recipe

_TERMS = {"mse": mean_squared_error, "cosine": cosine_loss}


def check_config(config: Face3DRunConfig) -> None:
    """Raises a ValueError for what could not train, or would select by a metric that is not there.

    A pose encoder without its CLIP, a monitored metric that the recipe does not have or whose
    better end is the other one. A CLIP that is not there is a FileNotFoundError.
    """
    if config.model.encodes_text:
        check_clip(config.pose_text_clip)
    check_monitored(
        config,
        lower=["loss", *(f"loss/{term}" for term in loss_terms_of(config.loss))],
        higher=["cosine_similarity", "rank1", "verification_auc"],
    )


def loss_terms_of(loss: LossConfig) -> tuple[str, ...]:
    """The names of the loss's terms."""
    return ("mse", "cosine") if loss.kind == "combined" else (loss.kind,)


def make_recipe(config: Face3DRunConfig, data: DataInfo) -> Recipe:
    """The recipe of a config.

    Args:
      config: what to train.
      data: with `data.train` the recipe can start a run, whose pose encoder reads its CLIP here;
        without it, one that needs a CLIP can only go on from a checkpoint.
    """
    model_config, loss = config.model, config.loss
    model = face3d(model_config, Policy(config.precision).compute_dtype)
    starts = model_config.encodes_text and data.train is not None
    clip = config.pose_text_clip if starts else None
    table = read_table(clip, model_config.pose_text_dim)
    terms = loss_terms_of(loss)
    hparams = collect(config, data.steps_per_epoch)
    weighted = "focal_gamma" in hparams

    def init(key: jax.Array) -> tuple[Any, Any]:
        shapes = {
            "src": (2, model_config.feature_size),
            "pose": (2, 3),
            "keypoints_3d": (2, model_config.num_keypoints, 3),
        }
        example = {n: jax.ShapeDtypeStruct(shape, jnp.float32) for n, shape in shapes.items()}
        params, batch_stats = linen_init(model, example)(key)
        return params, with_table(batch_stats, table) if model_config.encodes_text else batch_stats

    def inputs(batch: Batch) -> dict[str, jax.Array]:
        names = ("src", "pose", "keypoints_3d") if model_config.keypoints else ("src", "pose")
        return {name: batch[name] for name in names}

    def loss_terms(outputs: jax.Array, batch: Batch, hparams: Hparams) -> dict[str, jax.Array]:
        values = {name: _TERMS[name](outputs, batch["tgt"]) for name in terms}
        if not weighted:
            return values
        factors = difficulty_weights(
            cosine_similarity(outputs, batch["tgt"]),
            batch["pose"][:, config.data.yaw_index],
            focal_gamma=hparams["focal_gamma"],
            angle_kappa=hparams["angle_kappa"],
            mask=batch.get("mask"),
        )
        return {name: factors * each for name, each in values.items()}

    def metrics(outputs: jax.Array, batch: Batch, hparams: Hparams) -> dict[str, Any]:
        del hparams
        pairs = {"cosine_similarity": outputs, "cosine_similarity_input": batch["src"]}
        return {
            name: Mean.from_values(cosine_similarity(x, batch["tgt"]), batch.get("mask"))
            for name, x in pairs.items()
        }

    return Recipe.from_config(
        config,
        data,
        init=init,
        pretrained=without_table if starts and table is None else None,
        apply_fn=linen_apply(model),
        inputs=inputs,
        loss_terms=loss_terms,
        metrics=metrics,
        hparams=hparams,
        make_tx=build_optimizer(config.optim, inert=inert_parameters(model_config)),
        augment=augment,
        pass_metrics=retrieval_metrics,
        tag=seed_tag,
        keep_scale_on_nonfinite_loss=True,
    )
