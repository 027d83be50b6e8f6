"""The config of the face3d recipe; its defaults are those of the source document."""

import dataclasses
from typing import ClassVar, Literal

from jaxrecipes.fields import Checked, Count, Hparam, NonNegative, Share, hparam
from jaxrecipes.recipes.face3d.network_config import Face3DConfig
from jaxrecipes.recipes.faces.data import FaceDataConfig
from jaxrecipes.train.config import (
    EarlyStoppingConfig,
    EmaConfig,
    OptimConfig,
    PlateauConfig,
    RunConfig,
)


def _is_combined(loss: "LossConfig") -> bool:
    return loss.kind == "combined"


def _weighs_pairs(loss: "LossConfig") -> bool:
    return loss.focal_gamma != 0 or loss.angle_kappa != 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig(Checked):
    """The loss."""

    kind: Literal["combined", "mse", "cosine"] = "combined"
    """combined: mse_weight times the squared error and cosine_weight times 1 - cosine. mse, cosine:
    one of them alone."""
    weight: Hparam[NonNegative] = hparam(
        1.0, name="loss_weight/{kind}", when=lambda loss: loss.kind != "combined"
    )
    """mse, cosine: weight of the loss."""
    mse_weight: Hparam[NonNegative] = hparam(0.3, name="loss_weight/mse", when=_is_combined)
    """combined: weight of the mean squared error."""
    cosine_weight: Hparam[NonNegative] = hparam(0.7, name="loss_weight/cosine", when=_is_combined)
    """combined: weight of 1 - cosine."""
    focal_gamma: Hparam[NonNegative] = hparam(0.0, when=_weighs_pairs)
    """Weight a pair by ((1 - cosine) / 2) to this power, so that hard pairs count more. An
    extension; 0: off."""
    angle_kappa: Hparam[NonNegative] = hparam(0.0, when=_weighs_pairs)
    """Weight a pair by 1 + this times its angle / 90 degrees (data.yaw_index says which angle). An
    extension; 0: off."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Face3DRunConfig(RunConfig):
    """Face 3D transformer: the embedding of a side view and its pose to the frontal embedding."""

    RECIPE: ClassVar[str] = "face3d"

    epochs: Count = 100
    data: FaceDataConfig = dataclasses.field(default_factory=FaceDataConfig)
    optim: OptimConfig = dataclasses.field(
        default_factory=lambda: OptimConfig(
            learning_rate=5e-5, min_learning_rate=1e-7, weight_decay=1e-5, clip_norm=1.0
        )
    )
    plateau: PlateauConfig = dataclasses.field(
        default_factory=lambda: PlateauConfig(factor=0.2, patience_epochs=3)
    )
    early_stopping: EarlyStoppingConfig = dataclasses.field(
        default_factory=lambda: EarlyStoppingConfig(
            patience_epochs=15, min_delta=1e-5, save_stopping_epoch=False
        )
    )
    ema: EmaConfig = dataclasses.field(default_factory=lambda: EmaConfig(enabled=False))
    model: Face3DConfig = dataclasses.field(default_factory=Face3DConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    pose_text_clip: str | None = None
    """decoder_only_clip with model.use_clip_pose_encoder: folder or file of a CLIP, whose text
    tower a new run reads. "checkpoint": its features are already in the run's checkpoint (as in
    imported runs)."""
    pose_text_dropout: Hparam[Share] = hparam(
        0.1,
        name="pose_text_dropout_rate",
        when=lambda config: config.model.encodes_text,
        off_at_zero=True,
    )
    """The same networks: dropout of the phrase codes, whatever model.dropout is."""
