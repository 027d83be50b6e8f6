"""What a finished OCEC run shows: confusion matrix, ROC and precision-recall, augmented samples,
the worst mistakes.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrecipes.compile_quickly import run_once
from jaxrecipes.metrics import precision_recall_curve, roc_curve
from jaxrecipes.recipes.ocec.config import OcecRunConfig
from jaxrecipes.recipes.ocec.examples import Eyes
from jaxrecipes.recipes.ocec.recipe import CLASS_NAMES, logit_scale
from jaxrecipes.report import plots
from jaxrecipes.train.evaluate import Evaluation
from jaxrecipes.train.recipe import Recipe


def probabilities(config: OcecRunConfig, logits: np.ndarray) -> np.ndarray:
    """prob_open `[N]` float32 of logits `[N]`."""
    return np.asarray(jax.nn.sigmoid(logit_scale(config) * np.asarray(logits, np.float32)))


def write_report(
    config: OcecRunConfig, split: str, evaluation: Evaluation, eyes: Eyes, folder: pathlib.Path
) -> None:
    """Confusion matrix, curves and the worst mistakes of one split as PNG files in `folder`."""
    labels = eyes.arrays["label"]
    probs = probabilities(config, evaluation.outputs)
    preds = probs >= 0.5
    counts = [[int(np.sum((labels == t) & (preds == p))) for p in (0, 1)] for t in (0, 1)]
    title = f"{split}, {len(labels)} eyes"
    plots.confusion_matrix(
        counts, folder / f"confusion_{split}.png", class_names=CLASS_NAMES, title=title
    )
    fpr, tpr, _ = roc_curve(labels, probs)
    plots.roc_curve(fpr, tpr, evaluation.metrics["auc"], folder / f"roc_{split}.png", title=title)
    precision, recall, _ = precision_recall_curve(labels, probs)
    average = float(-np.sum(np.diff(recall) * precision[:-1]))
    path = folder / f"precision_recall_{split}.png"
    plots.precision_recall_curve(
        precision, recall, average, path, positive_share=float(labels.mean()), title=title
    )

    wrong = np.flatnonzero(preds != labels)
    worst = wrong[np.argsort(-np.abs(probs[wrong] - 0.5), kind="stable")][:40]
    if len(worst):
        captions = [f"{CLASS_NAMES[labels[i]]}\np(open) {probs[i]:.2f}" for i in worst]
        plots.contact_sheet(
            np.asarray(eyes.arrays["image"][worst]),
            captions,
            folder / f"worst_mistakes_{split}.png",
            columns=8,
            scale=4,
            about=f"The worst mistakes: {title}",
        )


def write_samples(recipe: Recipe, eyes: Eyes, hparams: Any, path: pathlib.Path) -> None:
    """A contact sheet of training images, each beside what augmentation makes of it."""
    indices = np.random.default_rng(0).permutation(len(eyes))[:32]
    originals = np.asarray(eyes.arrays["image"][indices])
    labels = eyes.arrays["label"][indices]
    batch = {"image": jnp.asarray(originals), "label": jnp.asarray(labels)}
    augmented = run_once(recipe.augment, jax.random.key(0), batch, hparams)
    after = np.asarray(augmented["image"]).round().astype(np.uint8)
    captions = [CLASS_NAMES[label] for label in labels]
    plots.contact_sheet(
        plots.side_by_side(originals, after),
        captions,
        path,
        columns=4,
        scale=4,
        about="Training images as they are, and as augmentation makes them",
    )


def prediction_columns(
    config: OcecRunConfig, eyes: Eyes, logits: np.ndarray
) -> dict[str, Sequence[Any]]:
    """`path`, `logit` and `prob_open` of each image."""
    probs = probabilities(config, logits)
    return {
        "path": eyes.names,
        "logit": [f"{logit:.6f}" for logit in logits],
        "prob_open": [f"{prob:.6f}" for prob in probs],
    }
