"""A trained face3d model as a file: from `src`, `pose` and perhaps `keypoints_3d` to `frontal`."""

from typing import Any

from jaxrecipes.recipes.face3d.network import face3d
from jaxrecipes.recipes.faces.deploy import example_inputs
from jaxrecipes.runs.exports import Deployed
from jaxrecipes.runs.trained import Trained


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
