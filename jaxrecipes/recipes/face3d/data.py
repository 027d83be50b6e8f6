"""The data of the face3d recipe: pairs of a side view and a frontal photo."""

import pathlib
from collections.abc import Sequence

from jaxrecipes.recipes.face3d.config import Face3DRunConfig
from jaxrecipes.recipes.faces import data as face_data
from jaxrecipes.recipes.faces import inputs as face_inputs
from jaxrecipes.recipes.faces.data import FacePairs


def load_data(
    config: Face3DRunConfig,
    *,
    report_dir: pathlib.Path | None = None,
    train: bool = True,
    run_dir: pathlib.Path | None = None,
) -> dict[str, FacePairs]:
    """The splits that have pairs; see `faces.data.load_data`."""
    return face_data.load_data(
        config,
        feat_dim=config.model.feature_size,
        report_dir=report_dir,
        train=train,
        run_dir=run_dir,
        keypoints=config.model.keypoints,
    )


def load_inputs(config: Face3DRunConfig, inputs: Sequence[pathlib.Path]) -> FacePairs:
    """Embeddings and poses to predict with; see `faces.inputs.load_inputs`.

    Raises:
      ValueError: also for inputs without poses, which the network cannot do without.
    """
    model = config.model
    pairs = face_inputs.load_inputs(inputs, feat_dim=model.feature_size, keypoints=model.keypoints)
    if not pairs.has_pose:
        raise ValueError(
            "the face3d network needs the pose of each face: give .npz files with embeddings [N, "
            f"{model.feature_size}] and pose [N, 3] in degrees, or folders of features"
        )
    return pairs
