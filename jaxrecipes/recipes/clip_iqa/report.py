"""What a finished clip_iqa run shows: predictions against opinions, tables, images, samples."""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxrecipes.compile_quickly import run_once
from jaxrecipes.recipes.clip_iqa import plots as rated
from jaxrecipes.recipes.clip_iqa.config import IqaRunConfig
from jaxrecipes.recipes.clip_iqa.data import RatedImages
from jaxrecipes.recipes.clip_iqa.recipe import MOS_SCALE, SCORES
from jaxrecipes.report.contact_sheet import contact_sheet, side_by_side
from jaxrecipes.train.evaluate import Evaluation
from jaxrecipes.train.recipe import Recipe

_SAMPLES = 16


def write_report(
    config: IqaRunConfig,
    split: str,
    evaluation: Evaluation,
    images: RatedImages,
    folder: pathlib.Path,
) -> None:
    """Scatter plots, tables and images of one split as PNG and CSV files in `folder`.

    All in the units of the opinions. The tables are over all images and over each generator, and
    over each prompt where a prompt has several images.
    """
    scores = {
        name: (
            MOS_SCALE * np.asarray(evaluation.outputs[name]),
            MOS_SCALE * np.asarray(images.arrays[name]),
        )
        for name in SCORES
    }
    title = f"{split}, {len(images)} images"
    rated.score_scatter(scores, folder / f"scores_{split}.png", title=title, fit=config.plcc_fit)
    rated.write_agreement(
        scores,
        folder / f"agreement_{split}.csv",
        groups=images.generators,
        group_name="generator",
    )
    if 1 < len(set(images.prompts)) < len(images):
        path = folder / f"agreement_by_prompt_{split}.csv"
        rated.write_agreement(scores, path, groups=images.prompts, group_name="prompt")
    if "image" in images.arrays:
        for name, (pred, opinion) in scores.items():
            rated.score_sheet(
                images.arrays["image"],
                pred,
                opinion,
                images.prompts,
                folder / f"images_by_{name}_{split}.png",
                title=f"{title}, {name}",
            )


def write_samples(recipe: Recipe, images: RatedImages, hparams: Any, path: pathlib.Path) -> None:
    """A contact sheet of training images, each beside what augmentation makes of it.

    Nothing is written of embeddings that stand in for the images.
    """
    if "image" not in images.arrays:
        return
    rows = np.random.default_rng(0).permutation(len(images))[:_SAMPLES]
    originals = np.asarray(images.arrays["image"][rows])
    batch = {
        name: jnp.asarray(images.arrays[name][rows])
        for name in ("image", "image_size")
        if name in images.arrays
    }
    augmented = run_once(recipe.augment, jax.random.key(0), batch, hparams)["image"]
    after = np.asarray(augmented).round().clip(0, 255).astype(np.uint8)
    every = np.arange(len(rows))
    before = rated.thumbnails(originals, every)
    height, width = before.shape[1:3]
    seen = [np.asarray(Image.fromarray(image).resize((width, height))) for image in after]
    rated_as = [[f"{n} {MOS_SCALE * images.arrays[n][row]:.2f}" for n in SCORES] for row in rows]
    captions = [
        f"{', '.join(scores)}\n{images.prompts[row]}"
        for scores, row in zip(rated_as, rows, strict=True)
    ]
    contact_sheet(
        side_by_side(before, np.stack(seen)),
        captions,
        path,
        columns=4,
        about="Training images as they are, and as augmentation makes them",
    )


def prediction_columns(
    config: IqaRunConfig, images: RatedImages, outputs: Any
) -> dict[str, Sequence[Any]]:
    """`name` and `prompt` of each image, both scores in [0, 1], and as `_5` in the opinions'
    units.
    """
    del config
    columns: dict[str, Sequence[Any]] = {"name": images.names, "prompt": images.prompts}
    for suffix, scale, digits in (("", 1.0, 6), ("_5", MOS_SCALE, 4)):
        for name in SCORES:
            values = scale * np.asarray(outputs[name], np.float64)
            columns[name + suffix] = [f"{value:.{digits}f}" for value in values]
    return columns
