"""A trained face3d model as a file: `src`, `pose` and `keypoints_3d`, if any, to `frontal`."""

from typing import Any

from jaxrecipes.models.face3d import face3d
from jaxrecipes.recipes.exports import Deployed
from jaxrecipes.recipes.face_deploy import example_inputs
from jaxrecipes.recipes.trained import Trained


def deployed(trained: Trained) -> Deployed:
    """The network."""
    config = trained.config.model
    network = face3d(config)

    def predict(variables: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"frontal": network.apply(variables, inputs, train=False)}

    keypoints = config.num_keypoints if config.keypoints else None
    return Deployed(
        function=predict, examples=example_inputs(config.feature_size, num_keypoints=keypoints)
    )
