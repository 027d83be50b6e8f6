"""The universal face recipe: its network, loss and metrics, wired for the generic step."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrecipes.losses import (
    cosine_similarity,
    id_similarity,
    info_nce,
    orthogonality,
    pose_consistency,
    pose_l1,
    reconstruction,
    similarity_protection,
)
from jaxrecipes.metrics import Mean
from jaxrecipes.precision import Policy
from jaxrecipes.recipes.faces.augment import augment
from jaxrecipes.recipes.faces.pose_text_source import (
    check_clip,
    read_table,
    with_table,
    without_table,
)
from jaxrecipes.recipes.faces.report import retrieval_metrics, seed_tag
from jaxrecipes.recipes.universal_face.config import UniversalFaceRunConfig
from jaxrecipes.recipes.universal_face.network import UniversalFace
from jaxrecipes.train.config import check_monitored
from jaxrecipes.train.hparams import collect
from jaxrecipes.train.recipe import Batch, DataInfo, Hparams, Recipe

TERMS = (
    "id_similarity",
    "pose",
    "ortho",
    "contrast",
    "reconstruction",
    "pose_consistency",
    "similarity_protection",
)

_RATES = ("dropout_rate", "attention_dropout_rate", "pose_text_dropout_rate")


def check_config(config: UniversalFaceRunConfig) -> None:
    """Raises a ValueError for a config that cannot train, or that selects by an unknown metric.

    A pose encoder without its CLIP, a monitored metric that the recipe does not have or whose
    better end is the other one. A CLIP that is not there is a FileNotFoundError.
    """
    if config.model.use_clip_pose_encoder:
        check_clip(config.pose_text_clip)
    check_monitored(
        config,
        lower=("loss", *(f"loss/{name}" for name in TERMS)),
        higher=(
            "cosine_similarity",
            "cosine_similarity_estimated",
            "rank1",
            "verification_auc",
        ),
    )


def make_recipe(config: UniversalFaceRunConfig, data: DataInfo) -> Recipe:
    """The recipe of a config.

    Args:
      config: what to train.
      data: with `data.train` the recipe can start a run, whose pose encoder reads its CLIP here;
        without it, one that needs a CLIP can only go on from a checkpoint.
    """
    starts = config.model.use_clip_pose_encoder and data.train is not None
    clip = config.pose_text_clip if starts else None
    table = read_table(clip, config.model.pose_text_dim)
    model = UniversalFace(config.model, dtype=Policy(config.precision).compute_dtype)
    hparams = collect(config, data.steps_per_epoch)
    rates = [name for name in _RATES if name in hparams]

    def init(key: jax.Array) -> tuple[Any, Any]:
        variables = model.init(key, jnp.zeros((1, config.model.feat_dim), jnp.float32))
        batch_stats = variables["batch_stats"]
        if config.model.use_clip_pose_encoder:
            batch_stats = with_table(batch_stats, table)
        return variables["params"], batch_stats

    def apply_fn(params, batch_stats, inputs, *, hparams, train, key):
        variables = {"params": params, "batch_stats": batch_stats}
        applied = {name: hparams[name] for name in rates} if train else {}
        src, pose = inputs["src"], inputs["pose"]
        rngs = {"dropout": key}
        outputs: Any = model.apply(variables, src, pose, train=train, **applied, rngs=rngs)
        # Two terms need parameters or the prototypes, which only this function has.
        outputs |= {
            "pose_consistency": pose_consistency(
                outputs["pose_features"],
                batch_stats["pose_prototypes"],
                pose,
                yaw_index=config.data.yaw_index,
            ),
            "ortho": jnp.broadcast_to(
                orthogonality(params["id_proj"]["kernel"], params["pose_proj"]["kernel"]),
                src.shape[:1],
            ),
        }
        if not train:
            estimated: Any = model.apply(variables, src)
            outputs["projected_estimated"] = estimated["projected"]
        unused = ("id_features_raw", "pose_features_raw", "pose_features")
        return {name: x for name, x in outputs.items() if name not in unused}, batch_stats

    def loss_terms(outputs: Any, batch: Batch, hparams: Hparams) -> dict[str, jax.Array]:
        projected, tgt = outputs["projected"], batch["tgt"]
        return {
            "id_similarity": id_similarity(projected, tgt),
            "pose": pose_l1(outputs["pose_angles"], batch["pose"]),
            "ortho": outputs["ortho"],
            "contrast": info_nce(
                outputs["id_features"],
                batch["person"],
                temperature=hparams["temperature"],
                mask=batch.get("mask"),
                exclude_self=config.loss.exclude_self,
            ),
            "reconstruction": reconstruction(projected, tgt),
            "pose_consistency": outputs["pose_consistency"],
            "similarity_protection": similarity_protection(
                outputs["base_features"], projected, tgt, margin=hparams["protection_margin"]
            ),
        }

    def metrics(outputs: Any, batch: Batch, hparams: Hparams) -> dict[str, Any]:
        del hparams
        compared = {
            "cosine_similarity": outputs["projected"],
            "cosine_similarity_input": batch["src"],
        }
        if "projected_estimated" in outputs:
            compared["cosine_similarity_estimated"] = outputs["projected_estimated"]
        mask = batch.get("mask")
        return {
            name: Mean.from_values(cosine_similarity(features, batch["tgt"]), mask)
            for name, features in compared.items()
        }

    fixed = "^loss_projections/" + ("feat_to_id/" if config.train_loss_projections else "")
    return Recipe.from_config(
        config,
        data,
        init=init,
        pretrained=without_table if starts and table is None else None,
        apply_fn=apply_fn,
        inputs=lambda batch: {"src": batch["src"], "pose": batch["pose"]},
        loss_terms=loss_terms,
        metrics=metrics,
        hparams=hparams,
        augment=augment,
        pass_metrics=retrieval_metrics,
        tag=seed_tag,
        frozen=(*config.optim.frozen, fixed),
    )
