"""What a run reads besides its data: the backbone's weights and the hand."""

from typing import Any

import numpy as np

from jaxrecipes.models.dinov2.weights import SOURCES, read_dinov2
from jaxrecipes.models.hand.mano import load_mano
from jaxrecipes.models.hand.model import HandModel
from jaxrecipes.models.hand.procedural import procedural_hand
from jaxrecipes.paths import user_path
from jaxrecipes.recipes.hand_pose.config import BackboneSource, HandRunConfig, HandSource
from jaxrecipes.recipes.hand_pose.constants import decoder_constants
from jaxrecipes.train.recipe import Pretrained

_ARCHITECTURE = ("width", "depth", "num_heads", "swiglu", "mlp_width", "num_registers", "grid")


def check_sources(config: HandRunConfig) -> None:
    """Raises what `read_weights` and `hand_model` raise for files that are not there or no hand,
    and a ValueError for a published backbone that would start from nothing.
    """
    source = config.backbone
    if source.weights is not None:
        weights = user_path(source.weights)
        if not (weights.is_file() or weights.is_dir()):
            read_dinov2(weights)
    elif source.size != "custom" and not (
        source.from_scratch or config.init_from or config.first_stage
    ):
        raise ValueError(
            f"backbone.size is {source.size!r} and backbone.weights None, so that a DINOv2 which "
            "takes millions of images would learn from nothing: give its folder or file as "
            f"--backbone.weights, or --backbone.from_scratch if that is meant. {SOURCES}"
        )
    if (
        config.model.infusion_layer is not None
        and source.learning_rate is None
        and not (config.init_from or config.first_stage)
    ):
        raise ValueError(
            "model.infusion_layer fuses hidden states by parameters that belong to the backbone, "
            "which is frozen (backbone.learning_rate None): they would stay as they are drawn. "
            "Give a learning rate, an init_from, or no infusion_layer"
        )
    hand_model(config.hand)


def hand_model(source: HandSource) -> HandModel:
    """The hand of a config: the procedural one, or a user's.

    Raises:
      FileNotFoundError, ValueError: as `load_mano`.
    """
    if source.file is None:
        return procedural_hand()
    return load_mano(source.file, fingertips=source.fingertips, regressor=source.joint_regressor)


def pretrained(config: HandRunConfig) -> Pretrained | None:
    """What a run starts from; None where all is drawn."""
    source, network = config.backbone, config.network
    files = (source.weights, network.handec.use_mean_init, network.handec.denorm_output)
    if not any(files):
        return None

    def read(params: Any, batch_stats: Any) -> tuple[Any, Any]:
        del params, batch_stats
        given: dict[str, Any] = {}
        if source.weights is not None:
            given["backbone"] = {"dinov2": read_weights(source, config)}
        if constants := decoder_constants(network):
            given["handec"] = constants
        return given, {}

    return read


def read_weights(source: BackboneSource, config: HandRunConfig) -> dict[str, np.ndarray]:
    """The parameters of `backbone.weights`.

    Raises:
      ValueError: they are of another architecture.
      FileNotFoundError, ConversionError: as `read_dinov2`.
    """
    assert source.weights is not None
    wanted = config.network.backbone
    found, params = read_dinov2(source.weights, num_heads=wanted.num_heads)
    differences = [
        f"{name} {getattr(found, name)} instead of {getattr(wanted, name)}"
        for name in _ARCHITECTURE
        if getattr(found, name) != getattr(wanted, name)
    ]
    if differences:
        raise ValueError(
            f"{source.weights} is not the DINOv2 of backbone.size {source.size!r}: it has "
            f"{', '.join(differences)}; choose the size that fits, or custom and model.backbone"
        )
    return params
