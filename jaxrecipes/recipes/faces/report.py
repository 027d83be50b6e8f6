"""What both face recipes say of their results: retrieval figures, plots, predictions, tags."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrecipes import metrics, retrieval
from jaxrecipes.data.indexed_rows import Arrays, IndexedRows
from jaxrecipes.recipes.faces import plots as similarity
from jaxrecipes.recipes.faces.data import FacePairs
from jaxrecipes.train.config import RunConfig
from jaxrecipes.train.evaluate import Evaluation
from jaxrecipes.train.recipe import Recipe

# The entries of a pose. The original calls them yaw, pitch and roll; see `FaceDataConfig`.
ANGLES = ("tilt (entry 0)", "yaw (entry 1)", "nod (entry 2)")
_ROC_SCORES = 1 << 22  # pairs that a curve is drawn from, at most


def frontal_features(outputs: Any, *, has_pose: bool = True) -> np.ndarray:
    """The estimate of the frontal embedding, `[N, D]`, among a network's outputs.

    Args:
      outputs: the estimate itself, or a mapping that has it as `projected`, and if it was also
        made without the pose that one as `projected_estimated`.
      has_pose: whether poses are known; otherwise the estimate made without is taken.
    """
    if not isinstance(outputs, Mapping):
        return np.asarray(outputs)
    name = (
        "projected" if has_pose or "projected_estimated" not in outputs else "projected_estimated"
    )
    return np.asarray(outputs[name])


def retrieval_metrics(outputs: Any, arrays: Arrays) -> dict[str, float]:
    """How well the frontal photos are found, by the outputs and by the inputs as they are.

    Each side view counts once and each frontal photo once, however many pairs they are in.

    Args:
      outputs: of a pass over a split; see `frontal_features`.
      arrays: the split's `src`, `tgt` and `person`.

    Returns:
      `rank1`, `rank1_input`, `verification_auc` and `verification_auc_input`; NaN for outputs that
      are not finite.
    """
    features = frontal_features(outputs)
    found = {}
    for suffix, queries in (("", features), ("_input", arrays["src"])):
        compared = _views_and_photos(queries, arrays)
        finite = np.isfinite(compared[0]).all()
        for name, figure in (
            ("rank1", retrieval.rank_one),
            ("verification_auc", retrieval.verification_auc),
        ):
            found[name + suffix] = figure(*compared) if finite else float("nan")
    return found


def write_report(
    config: RunConfig, split: str, evaluation: Evaluation, pairs: FacePairs, folder: pathlib.Path
) -> None:
    """Similarity before and after, by angle too, and verification curves, as PNG files."""
    del config
    features = frontal_features(evaluation.outputs)
    target = np.asarray(pairs.arrays["tgt"])
    before, after = _cosines(np.asarray(pairs.arrays["src"]), target), _cosines(features, target)
    title = f"{split}, {len(pairs)} pairs of {len(set(pairs.persons))} people"
    similarity.similarity_histogram(before, after, folder / f"similarity_{split}.png", title=title)
    similarity.similarity_by_angle(
        _angles(pairs), before, after, folder / f"similarity_by_angle_{split}.png", title=title
    )
    if np.isfinite(features).all():
        inputs, outputs = (
            _roc(*_views_and_photos(queries, pairs.arrays))
            for queries in (pairs.arrays["src"], features)
        )
        similarity.verification_roc(
            inputs, outputs, folder / f"verification_{split}.png", title=title
        )


def write_samples(recipe: Recipe, pairs: FacePairs, hparams: Any, path: pathlib.Path) -> None:
    """A picture of the training pairs: angles, likeness of their two sides, and people."""
    del recipe, hparams
    similarity.pairs_overview(
        _angles(pairs),
        _cosines(np.asarray(pairs.arrays["src"]), np.asarray(pairs.arrays["tgt"])),
        np.unique(pairs.arrays["person"], return_counts=True)[1].tolist(),
        path,
        title=f"train, {len(pairs)} pairs",
    )


def prediction_columns(
    config: RunConfig, pairs: FacePairs, outputs: Any
) -> dict[str, Sequence[Any]]:
    """`name`, `person` and the frontal embedding as `feature_000` ... of each input."""
    del config
    features = frontal_features(outputs, has_pose=pairs.has_pose)
    columns = {
        f"feature_{i:03d}": [f"{x:.7g}" for x in column] for i, column in enumerate(features.T)
    }
    return {"name": pairs.names, "person": pairs.persons, **columns}


def seed_tag(name: str) -> str:
    """The name that the originals' TensorBoard logs have for one of ours; others stay.

    An epoch's means of the loss's terms, which the originals write among the steps' own numbers,
    are apart as `Train/Epoch_Loss_TERM`.
    """
    part, _, rest = name.partition("/")
    fixed = {
        "hparams/learning_rate": "Train/LearningRate",
        "epoch/loss": "Train/AvgLoss",
    }
    if name in fixed:
        return fixed[name]
    parts = {"train": "Train/", "epoch": "Train/Epoch_", "val": "Val/", "test": "Test/"}
    if part not in parts:
        return name
    if rest == "cosine_similarity":
        return parts[part] + "CosineSimilarity"
    if rest == "loss" or rest.startswith("loss/"):
        return parts[part] + rest.replace("loss/", "Loss_").replace("loss", "Loss")
    return name


def _views_and_photos(
    queries: np.ndarray | IndexedRows, arrays: Arrays
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Queries, of side views; their people; frontal photos; theirs. Each row of the data once."""
    person = np.asarray(arrays["person"])
    views, photos = _first_of_each(arrays["src"]), _first_of_each(arrays["tgt"])
    return queries[views], person[views], arrays["tgt"][photos], person[photos]


def _first_of_each(rows: np.ndarray | IndexedRows) -> np.ndarray:
    """Where each row of the table occurs first; arrays without a table are taken as distinct."""
    if isinstance(rows, IndexedRows):
        return np.unique(rows.rows, return_index=True)[1]
    return np.arange(len(rows))


def _roc(
    queries: np.ndarray, query_labels: np.ndarray, gallery: np.ndarray, gallery_labels: np.ndarray
) -> similarity.Roc:
    """Of all pairs, or of evenly chosen queries where those would be too many to draw."""
    every = max(1, len(queries) * len(gallery) // _ROC_SCORES)
    queries, query_labels = queries[::every], query_labels[::every]
    same = query_labels[:, None] == gallery_labels
    scores = (_unit(queries) @ _unit(gallery).T).ravel()
    fpr, tpr, _ = metrics.roc_curve(same.ravel(), scores)
    return fpr, tpr, float(np.trapezoid(tpr, fpr))


def _angles(pairs: FacePairs) -> dict[str, np.ndarray]:
    return dict(zip(ANGLES, np.asarray(pairs.arrays["pose"]).T, strict=True))


def _cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sum(_unit(x) * _unit(y), axis=1)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
