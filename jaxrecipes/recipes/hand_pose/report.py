"""What a finished hand_pose run shows: hands drawn on patches, errors of joints; predictions."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipes.compile_quickly import run_once
from jaxrecipes.models.hand.alignment import procrustes_align
from jaxrecipes.models.hand.joints import CHAINS, EDGES, JOINT_NAMES
from jaxrecipes.recipes.hand_pose.config import HandRunConfig
from jaxrecipes.recipes.hand_pose.hands_in_image import prediction_columns
from jaxrecipes.recipes.hand_pose.joint_errors import LEAST_TO_ALIGN
from jaxrecipes.recipes.hand_pose.joint_plots import error_bars, pck_curves, write_joint_errors
from jaxrecipes.recipes.hand_pose.losses import hand_scale
from jaxrecipes.recipes.hand_pose.recipe import make_recipe
from jaxrecipes.recipes.hand_pose.shards import HandClips
from jaxrecipes.recipes.hand_pose.skeletons import PREDICTED, TRUE, Skeleton, draw_skeletons
from jaxrecipes.report.contact_sheet import contact_sheet, side_by_side
from jaxrecipes.train.evaluate import Evaluation
from jaxrecipes.train.recipe import DataInfo, Recipe

__all__ = ["prediction_columns", "write_report", "write_samples"]

CELL = 160  # pixels of a drawn patch
COLUMNS = 8
SAMPLES = 12

Arrays = Mapping[str, np.ndarray]


def write_report(
    config: HandRunConfig,
    split: str,
    evaluation: Evaluation,
    clips: HandClips,
    folder: pathlib.Path,
) -> None:
    """Hands on patches, curves and bars of errors as PNG files, and a table as CSV, in `folder`.

    Of clips, the last frame is shown. Joints count as they do in the metrics.
    """
    recipe = make_recipe(config, DataInfo(steps_per_epoch=1))
    names = ("joint_cam", "joint_rel", "joint_img", "joint_valid", "patch_bbox")
    labels = _seen(recipe, _without_pixels(clips), names)
    found = {name: np.asarray(evaluation.outputs[name])[:, -1] for name in names[:3]}
    errors = joint_errors(found, labels, norm_by_hand=config.network.norm_by_hand)
    title = f"{split}, {len(clips)} hands"
    relative = {name: errors[name] for name in ("root_relative", "aligned")}
    error_bars(relative, JOINT_NAMES, folder / f"joint_errors_{split}.png", title=title)
    pck_curves(relative, folder / f"pck_{split}.png", title=title)
    groups = {"all": range(len(JOINT_NAMES)), **CHAINS}
    groups |= {name: (i,) for i, name in enumerate(JOINT_NAMES)}
    write_joint_errors(errors, groups, folder / f"joint_errors_{split}.csv")

    rows = worst_best_others(errors["root_relative"], count=COLUMNS)
    patches = _seen(recipe, _taken(clips, rows), ("patch",))["patch"]
    drawn = []
    for row, patch in zip(rows, patches, strict=True):
        box, known = labels["patch_bbox"][row], labels["joint_valid"][row] > 0.5
        true, predicted = (
            _in_patch(arrays["joint_img"][row], box, len(patch)) for arrays in (labels, found)
        )
        skeletons = [Skeleton(true, TRUE, known), Skeleton(predicted, PREDICTED)]
        drawn.append(draw_skeletons(_pixels(patch), skeletons, edges=EDGES, size=CELL))
    means = {name: _clip_means(values[rows]) for name, values in relative.items()}
    contact_sheet(
        np.stack(drawn) if drawn else np.zeros((0, CELL, CELL, 3), np.uint8),
        [
            f"{clips.keys[row]}\n{error:.1f} mm, aligned {aligned:.1f}"
            for row, error, aligned in zip(rows, *means.values(), strict=True)
        ],
        folder / f"hands_{split}.png",
        columns=max(1, min(COLUMNS, len(clips))),
        title=f"{title}. Rows: worst, best, any. True joints are green, predicted ones red.",
        about=f"Hands: {title}",
    )


def write_samples(recipe: Recipe, clips: HandClips, hparams: Any, path: pathlib.Path) -> None:
    """A contact sheet of training images, each beside its augmented patch, joints drawn on both."""
    rows = np.random.default_rng(0).permutation(len(clips))[:SAMPLES]
    batch = _taken(clips, rows)
    names = ("patch", "patch_bbox", "joint_img", "joint_valid")
    seen = _last_frames(
        run_once(
            lambda arrays: _picked(recipe.augment(jax.random.key(0), arrays, hparams), names),
            batch,
        )
    )
    before: list[np.ndarray] = []
    after: list[np.ndarray] = []
    for i in range(len(rows)):
        height, width = np.asarray(batch["image_size"])[i]
        image = np.asarray(batch["image"])[i, -1, :height, :width]
        joints, known = np.asarray(batch["joint_img"])[i, -1], seen["joint_valid"][i] > 0.5
        patch = _pixels(seen["patch"][i])
        moved = _in_patch(seen["joint_img"][i], seen["patch_bbox"][i], len(patch))
        for sheet, pixels, points in ((before, image, joints), (after, patch, moved)):
            skeleton = Skeleton(points, TRUE, known)
            sheet.append(draw_skeletons(pixels, [skeleton], edges=EDGES, size=CELL))
    captions = [
        f"{clips.keys[row]}{', a left hand' if clips.arrays['left'][row] > 0.5 else ''}"
        for row in rows
    ]
    contact_sheet(
        side_by_side(np.stack(before), np.stack(after)),
        captions,
        path,
        columns=3,
        about="Training images as they are, and as augmentation makes them",
    )


def joint_errors(found: Arrays, labels: Arrays, *, norm_by_hand: bool) -> dict[str, np.ndarray]:
    """Errors of each joint, as `report.joints` wants them and as `joint_errors` counts them.

    Args:
      found: `joint_cam` and `joint_rel` `[N, 21, 3]` mm.
      labels: the same, and `joint_valid` `[N, 21]`.
      norm_by_hand: see `losses.hand.hand_scale`.

    Returns:
      `camera`, `root_relative` and `aligned`, `[N, 21]` mm each.
    """

    def prepared(joint_rel: Any, labels: Mapping[str, jax.Array]) -> tuple[jax.Array, ...]:
        valid = labels["joint_valid"]
        _, known = hand_scale(labels["joint_cam"], valid, norm_by_hand=norm_by_hand)
        counted = valid * known[:, None] > 0.5
        target = jnp.where(counted[..., None], labels["joint_rel"], 0.0)
        return counted, target, procrustes_align(joint_rel, target, mask=counted)

    names = ("joint_cam", "joint_rel", "joint_valid")
    counted, target, aligned = (
        np.asarray(a)
        for a in run_once(
            prepared,
            np.asarray(found["joint_rel"], np.float32),
            {name: np.asarray(labels[name], np.float32) for name in names},
        )
    )

    def distance(x: Any, y: np.ndarray, where: np.ndarray) -> np.ndarray:
        length = np.linalg.norm(np.asarray(x, np.float64) - y, axis=-1)
        return np.where(where, np.where(np.isfinite(length), length, np.inf), np.nan)

    enough = counted.sum(axis=1, keepdims=True) >= LEAST_TO_ALIGN
    return {
        "camera": distance(found["joint_cam"], labels["joint_cam"], counted),
        "root_relative": distance(found["joint_rel"], labels["joint_rel"], counted),
        "aligned": distance(aligned, target, counted & enough),
    }


def worst_best_others(errors: np.ndarray, *, count: int) -> np.ndarray:
    """Rows of `[N, J]` errors: those of the highest mean, of the lowest, and any others."""
    means = _clip_means(errors)
    known = np.flatnonzero(~np.isnan(means))
    order = known[np.argsort(-means[known], kind="stable")]
    rest = np.random.default_rng(0).permutation(order[count:-count] if count else order)
    count = min(count, len(order))
    return np.concatenate([order[:count], order[::-1][:count], rest[:count]])


def _clip_means(errors: np.ndarray) -> np.ndarray:
    """`[N]` means over the joints that count; NaN where none does."""
    counts = (~np.isnan(errors)).sum(axis=1)
    return np.where(counts > 0, np.nansum(errors, axis=1) / np.maximum(counts, 1), np.nan)


def _taken(clips: HandClips, rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.asarray(array[rows]) for name, array in clips.arrays.items()}


def _without_pixels(clips: HandClips) -> dict[str, np.ndarray]:
    """All clips, for what does not depend on the image."""
    arrays = {name: np.asarray(a) for name, a in clips.arrays.items() if name != "image"}
    return arrays | {"image": np.zeros((*arrays["hand_bbox"].shape[:2], 1, 1, 3), np.uint8)}


def _seen(recipe: Recipe, arrays: Arrays, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays of validation's batch, of each clip's last frame."""
    return _last_frames(
        run_once(lambda batch: _picked(recipe.preprocess(batch), names), dict(arrays))
    )


def _picked(batch: Mapping[str, jax.Array], names: Sequence[str]) -> dict[str, jax.Array]:
    return {name: batch[name] for name in names}


def _last_frames(arrays: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
    return {name: np.asarray(array)[:, -1] for name, array in arrays.items()}


def _in_patch(points: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """Points of the image in pixels of a patch of `box`."""
    return (points - box[:2]) / (box[2:] - box[:2]) * size


def _pixels(patch: np.ndarray) -> np.ndarray:
    return (255.0 * patch).round().clip(0, 255).astype(np.uint8)
