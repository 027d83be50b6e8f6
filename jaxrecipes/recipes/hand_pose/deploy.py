"""A trained hand_pose model as a file: from crops and their cameras to hands.

`patch` is `[batch, 3, S, S]` in [0, 1], a right hand's crop; `patch_bbox` `[batch, 4]` (x1, y1, x2,
y2), `focal` and `princpt` `[batch, 2]` are in pixels of the image that the crop is from. Outputs:
`pose` `[batch, 16 * numbers of a rotation]`, `betas` `[batch, 10]` and `trans` `[batch, 3]`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxrecipes.data.augment.images import standardize
from jaxrecipes.recipes.hand_pose.network import HandPose
from jaxrecipes.recipes.hand_pose.network_config import HandPoseConfig
from jaxrecipes.runs.exports import Deployed
from jaxrecipes.runs.trained import Trained

_OUTPUTS = ("pose", "betas", "trans")


def deployed(trained: Trained) -> Deployed:
    """The network of stage 1.

    Raises:
      ValueError: the network sees clips of several frames.
    """
    network = trained.config.network
    if network.temporal is not None or network.num_frame != 1:
        raise ValueError(
            "files are written of networks that see one frame; this one sees clips of "
            f"{network.num_frame}. Its weights alone can be written: --format safetensors"
        )
    return Deployed(function=predict_fn(network), examples=_examples(network.img_size))


def predict_fn(config: HandPoseConfig) -> Callable[[Any, dict[str, Any]], dict[str, Any]]:
    """`(variables, inputs) -> outputs`, crops being clips of one frame."""
    network = HandPose(config)

    def predict(variables: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        patch = inputs["patch"].transpose(0, 2, 3, 1)
        patch = standardize(patch, config.img_mean, config.img_std)
        frames = {name: array[:, None] for name, array in (inputs | {"patch": patch}).items()}
        outputs: Any = network.apply(variables, frames, train=False)
        return {name: outputs[name][:, 0] for name in _OUTPUTS}

    return predict


def _examples(size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0.0, 200.0, (8, 2))
    inputs = {
        "patch": rng.random((8, 3, size, size)),
        "patch_bbox": np.concatenate([corner, corner + rng.uniform(80, 200, (8, 1))], axis=1),
        "focal": rng.uniform(400.0, 600.0, (8, 2)),
        "princpt": rng.uniform(150.0, 250.0, (8, 2)),
    }
    return {name: array.astype(np.float32) for name, array in inputs.items()}
