"""The config of the face3d recipe; its defaults are those of the source document."""

import dataclasses
from typing import ClassVar, Literal

from jaxrecipes.fields import Checked, Count, NonNegative, Share, hparam
from jaxrecipes.recipes.face3d.network_config import Face3DConfig
from jaxrecipes.recipes.faces.data import FaceDataConfig
from jaxrecipes.train.config import (
    EarlyStoppingConfig,
    EmaConfig,
    LrScheduleConfig,
    OptimConfig,
    RunConfig,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig(Checked):
    """The loss; its numbers are hyperparameters."""

    kind: Literal["combined", "mse", "cosine"] = "combined"
    """combined: mse_weight times the squared error and cosine_weight times 1 - cosine. mse, cosine:
    one of them alone."""
    mse_weight: NonNegative = hparam(0.3, "loss_weight/mse")
    """combined: weight of the mean squared error."""
    cosine_weight: NonNegative = hparam(0.7, "loss_weight/cosine")
    """combined: weight of 1 - cosine."""
    focal_gamma: NonNegative = hparam(0.0)
    """Weigh a pair by ((1 - cosine) / 2) to this power: hard pairs count more. An extension; 0:
    off."""
    angle_kappa: NonNegative = hparam(0.0)
    """Weigh a pair by 1 + this times its angle / 90 degrees (data.yaw_index says which). An
    extension; 0: off."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Face3DRunConfig(RunConfig):
    """Face 3D transformer: the embedding of a side view and its pose to the frontal embedding."""

    RECIPE: ClassVar[str] = "face3d"

    epochs: Count = 100
    data: FaceDataConfig = dataclasses.field(default_factory=FaceDataConfig)
    optim: OptimConfig = dataclasses.field(
        default_factory=lambda: OptimConfig(learning_rate=5e-5, weight_decay=1e-5, clip_norm=1.0)
    )
    lr_schedule: LrScheduleConfig = dataclasses.field(
        default_factory=lambda: LrScheduleConfig(
            factor=0.2, patience_epochs=3, min_learning_rate=1e-7
        )
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
    tower a new run reads. "checkpoint": what it said is in the run's checkpoint already (imported
    runs have this)."""
    pose_text_dropout: Share = hparam(0.1, "pose_text_dropout_rate")
    """The same networks: dropout of the codes of phrases, whatever model.dropout is."""
