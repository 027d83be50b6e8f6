"""The data of the universal face recipe: pairs of a side view and a frontal photo."""

import pathlib
from collections.abc import Sequence

from jaxrecipes.recipes.faces import data as face_data
from jaxrecipes.recipes.faces import inputs as face_inputs
from jaxrecipes.recipes.faces.data import FacePairs
from jaxrecipes.recipes.universal_face.config import UniversalFaceRunConfig


def load_data(
    config: UniversalFaceRunConfig,
    *,
    report_dir: pathlib.Path | None = None,
    train: bool = True,
    run_dir: pathlib.Path | None = None,
) -> dict[str, FacePairs]:
    """The splits that have pairs; see `faces.data.load_data`."""
    return face_data.load_data(
        config,
        feat_dim=config.model.feat_dim,
        report_dir=report_dir,
        train=train,
        run_dir=run_dir,
    )


def load_inputs(config: UniversalFaceRunConfig, inputs: Sequence[pathlib.Path]) -> FacePairs:
    """Embeddings to predict with, and poses if known; see `faces.inputs.load_inputs`."""
    return face_inputs.load_inputs(inputs, feat_dim=config.model.feat_dim)
