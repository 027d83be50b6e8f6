"""The hand_pose recipe: network, losses, metrics and augmentation, wired for the generic step."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxrecipes import schedules
from jaxrecipes.data.augment.images import standardize
from jaxrecipes.data.augment.pixels import augment_pixels
from jaxrecipes.precision import Policy
from jaxrecipes.recipes.hand_pose.augment import draw
from jaxrecipes.recipes.hand_pose.config import DropoutConfig, HandRunConfig
from jaxrecipes.recipes.hand_pose.crop import HandCrop
from jaxrecipes.recipes.hand_pose.decoder import bin_centres
from jaxrecipes.recipes.hand_pose.joint_errors import hand_errors, more_hand_errors
from jaxrecipes.recipes.hand_pose.losses import (
    hand_predictions,
    hand_scale,
    hand_targets,
    hand_terms,
)
from jaxrecipes.recipes.hand_pose.network import HandPose, constants
from jaxrecipes.recipes.hand_pose.sources import check_sources, hand_model, pretrained
from jaxrecipes.schedules import Schedule, ScheduleLike
from jaxrecipes.train.apply_fn import linen_apply
from jaxrecipes.train.build import build_optimizer
from jaxrecipes.train.config import check_monitored
from jaxrecipes.train.hparams import collect
from jaxrecipes.train.recipe import Batch, DataInfo, Hparams, Recipe

_ERRORS = ("micro_mpjpe", "micro_mpjpe_rel", "micro_mpvpe", "micro_mpvpe_rel", "micro_rte")
_MORE_ERRORS = ("pa_mpjpe", "macro_mpjpe")
_AREAS = ("pck_auc", "pa_pck_auc")
_TERMS = ("theta", "shape", "trans", "joint_rel", "joint_img")
_RANGES = (
    *("scale_z_min", "scale_z_max", "scale_f_min", "scale_f_max"),
    *("in_plane_rot_max", "persp_rot_max", "princpt_noise"),
)
_BACKBONE = "^backbone/"
_TAGS = {
    "train/loss": "train/loss_total",
    "hparams/learning_rate": "train/lr",
    "hparams/dropout_rate": "train/dropout_rate",
}


def check_config(config: HandRunConfig) -> None:
    """Raises a ValueError for what could not train, or would select by a metric that is not there.

    Weights or a hand that are not there are a FileNotFoundError.
    """
    check_sources(config)
    sigma, network = config.loss.heatmap_sigma, config.network
    spacing = max(
        (high - low) / (bins - 1)
        for (low, high), bins in zip(network.ranges, network.handec.heatmap_resolution, strict=True)
    )
    if config.loss.supervise_heatmap and isinstance(sigma, int | float) and sigma < 0.7 * spacing:
        raise ValueError(
            f"loss.heatmap_sigma is {sigma}, but the bins are up to {spacing:.3g} apart, so that a "
            f"target could lie between them all: give {0.7 * spacing:.2g} or more, or more bins in "
            "model.handec.heatmap_resolution"
        )
    check_monitored(
        config,
        lower=["loss", *(f"loss/{term}" for term in _TERMS), *_ERRORS, *_MORE_ERRORS],
        higher=_AREAS,
    )


def make_recipe(config: HandRunConfig, data: DataInfo) -> Recipe:
    """The recipe of a config."""
    network, loss, augment = config.network, config.loss, config.augment
    model = HandPose(network, Policy(config.precision).compute_dtype)
    hand = hand_model(config.hand)
    pixels = augment.pixel_augment
    centers = bin_centres(network) if loss.supervise_heatmap else None
    crop = HandCrop(
        img_size=network.img_size,
        expansion_ratio=augment.expansion_ratio,
        crop=augment.crop,
        persp_rot_root_fix=augment.persp_rot_root_fix,
        perspective_normalization=augment.perspective_normalization,
        joint_type=network.joint_type,
    )
    robust = loss.reproj_type == "robust_l1"
    frozen = config.backbone.learning_rate is None

    def derive(found: Mapping[str, Schedule]) -> dict[str, ScheduleLike]:
        rate = found["dropout_rate"]
        derived: dict[str, ScheduleLike] = {}
        if not isinstance(config.dropout.rate, str):
            derived["dropout_rate"] = _progressive(config.dropout, rate)
        if "output_dropout_rate" not in found:
            everywhere = config.dropout.scope == "all"
            derived["output_dropout_rate"] = (
                derived.get("dropout_rate", rate) if everywhere else rate
            )
        if not frozen:
            peak = config.optim.learning_rate
            at_peak = peak if isinstance(peak, int | float) else 1.0
            own = found["backbone_rate_factor"]
            if own.kind is schedules.constant:
                number = float(own.numbers["value"])
                derived["backbone_rate_factor"] = number / at_peak if at_peak else 0.0
            else:
                derived["backbone_rate_factor"] = schedules.scale(own, 1.0 / at_peak)
        return derived

    hparams = collect(config, data.steps_per_epoch, also=(pixels,), derive=derive)

    norm_eps = loss.norm_eps
    if isinstance(norm_eps, str):  # of the run's end; predictions know no step
        last = config.total_steps(data.steps_per_epoch) - 1
        norm_eps = float(hparams["norm_eps"](last))

    def augment_batch(key: jax.Array, batch: Batch, hparams: Hparams) -> Batch:
        draw_key, pixel_key = jax.random.split(key)
        draws = draw(draw_key, len(batch["left"]))
        batch = crop.augmented(batch, draws, {name: hparams[name] for name in _RANGES})
        patch = augment_pixels(pixel_key, batch["patch"], pixels, hparams=hparams)
        return batch | {"patch": patch}

    def inputs(batch: Batch) -> dict[str, jax.Array]:
        patch = standardize(batch["patch"], network.img_mean, network.img_std)
        names = ("patch_bbox", "focal", "princpt", "timestamp")
        return {"patch": patch} | {name: batch[name] for name in names}

    def predicted(outputs: Any, batch: Batch, norm_eps: Any) -> dict[str, jax.Array]:
        return hand_predictions(
            hand,
            outputs,
            batch,
            fk_grad=loss.fk_grad,
            norm_eps=norm_eps,
            joint_type=network.joint_type,
            norm_by_hand=network.norm_by_hand,
        )

    def loss_terms(outputs: Any, batch: Batch, hparams: Hparams) -> dict[str, jax.Array]:
        return hand_terms(
            outputs,
            predicted(outputs, batch, hparams["norm_eps"]),
            batch,
            centers=centers,
            heatmap_sigma=hparams.get("heatmap_sigma", 0.0),
            norm_eps=hparams["norm_eps"],
            norm_by_hand=network.norm_by_hand,
            reproj_delta=hparams["reproj_delta"] if robust else None,
            reduction=loss.reduction,
        )

    def metrics(outputs: Any, batch: Batch, hparams: Hparams) -> dict[str, Any]:
        pair = (
            predicted(outputs, batch, hparams["norm_eps"]),
            hand_targets(hand, batch, joint_type=network.joint_type),
        )
        options: dict[str, Any] = {
            "norm_by_hand": network.norm_by_hand,
            "last_frame": network.temporal is not None,
        }
        found = hand_errors(*pair, batch, **options)
        if "mask" not in batch:  # a training step
            return dict(found)
        return found | more_hand_errors(*pair, batch, **options)

    def predictions(outputs: Any, batch: Batch) -> dict[str, jax.Array]:
        found = predicted(outputs, batch, norm_eps)
        # A hand whose scale is not labelled has that of its prediction.
        _, known = hand_scale(batch["joint_cam"], batch["joint_valid"])
        size = jnp.where(known[..., None, None] > 0, batch["joint_cam"], found["joint_rel"])
        found = predicted(outputs, batch | {"joint_cam": size}, norm_eps)
        kept = {name: found[name] for name in ("joint_rel", "joint_cam", "joint_img")}
        return kept | {name: outputs[name] for name in ("pose", "betas", "trans")}

    def factors(hparams: Hparams) -> dict[str, Any]:
        return {} if frozen else {_BACKBONE: hparams["backbone_rate_factor"]}

    def log_line(step: int, steps: int, values: Mapping[str, float]) -> str:
        rate = float(hparams["learning_rate"](step))  # of the next update, as in the original
        if config.optim.schedule == "plateau":
            rate = values["hparams/learning_rate"]
        parts = [f"{step}/{steps} lr={rate:.4e} dropout={values['hparams/dropout_rate']:.3f}"]
        parts.append(f"total={values['loss']:.4f}")
        parts += [f"loss_{term}={values[f'loss/{term}']:.4f}" for term in _TERMS]
        parts += [f"{name}={values[name]:.4f}" for name in _ERRORS]
        return " ".join(parts)

    return Recipe.from_config(
        config,
        data,
        init=functools.partial(model.init_params, read_files=False),  # a new run gets them below
        pretrained=pretrained(config),
        apply_fn=linen_apply(model, fixed={"train_backbone": not frozen}),
        inputs=inputs,
        loss_terms=loss_terms,
        metrics=metrics,
        hparams=hparams,
        make_tx=build_optimizer(config.optim, factors=factors),
        augment=augment_batch,
        preprocess=crop.plain,
        predictions=predictions,
        tag=_tag,
        step_metrics=_ERRORS,
        log_line=log_line,
        frozen=(*config.optim.frozen, *constants(network), *((_BACKBONE,) if frozen else ())),
    )


def _progressive(dropout: DropoutConfig, rate: Schedule) -> Schedule:
    """No dropout during the warm-up, then a rise to the rate, or the rate at once."""
    target = rate
    if dropout.ramp_steps:
        target = schedules.linear(0.0, rate.numbers["value"], steps=dropout.ramp_steps)
    if not dropout.warmup_steps:
        return target
    return schedules.delayed(
        target if dropout.ramp_steps else rate.numbers["value"], start_step=dropout.warmup_steps
    )


def _tag(name: str) -> str:
    """The source document's names: `train/lr`, `train/loss_theta`, `val/micro_mpjpe` ..."""
    return _TAGS.get(name, name.replace("/loss/", "/loss_"))
