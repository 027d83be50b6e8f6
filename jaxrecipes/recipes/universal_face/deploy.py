"""A trained universal face model as a file: from `src`, an embedding `[batch, D]`, and `pose`
`[batch, 3]` in degrees to the outputs of the network's mode "inference".
"""

from typing import Any

from jaxrecipes.recipes.faces.deploy import example_inputs
from jaxrecipes.recipes.universal_face.network import UniversalFace
from jaxrecipes.runs.exports import Deployed
from jaxrecipes.runs.trained import Trained


def deployed(trained: Trained) -> Deployed:
    """The network with the pose given."""
    network = UniversalFace(trained.config.model)

    def predict(variables: Any, inputs: dict[str, Any]) -> Any:
        return network.apply(variables, inputs["src"], inputs["pose"], mode="inference")

    return Deployed(function=predict, examples=example_inputs(trained.config.model.feat_dim))
