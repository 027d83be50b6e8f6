"""The config of the universal face recipe; its defaults are those of the source document."""

import dataclasses
from typing import ClassVar, Literal

from jaxrecipes.fields import Checked, Count, NonNegative, Positive, Share, hparam
from jaxrecipes.recipes.faces.data import FaceDataConfig
from jaxrecipes.recipes.universal_face.network import UniversalFaceConfig
from jaxrecipes.train.config import EmaConfig, LrScheduleConfig, OptimConfig, RunConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig(Checked):
    """The seven terms of the loss; all numbers are hyperparameters."""

    lambda_id: NonNegative = hparam(3.0, "loss_weight/id_similarity")
    """Weight of id_similarity: the identity code, projected, against the frontal embedding."""
    lambda_pose: NonNegative = hparam(0.2, "loss_weight/pose")
    """Weight of pose: mean absolute error of the estimated angles, in degrees."""
    lambda_ortho: NonNegative = hparam(0.05, "loss_weight/ortho")
    """Weight of ortho: alignment of the identity and pose projections."""
    lambda_contrast: NonNegative = hparam(0.1, "loss_weight/contrast")
    """Weight of contrast: InfoNCE on the identity codes of a batch."""
    lambda_reconstruction: NonNegative = hparam(0.5, "loss_weight/reconstruction")
    """Weight of reconstruction: mean squared error of the projected identity code."""
    lambda_similarity_protection: NonNegative = hparam(1.0, "loss_weight/similarity_protection")
    """Weight of similarity_protection: what the identity code loses against the features it is made
    from."""
    lambda_pose_consistency: NonNegative = hparam(0.1, "loss_weight/pose_consistency")
    """Weight of pose_consistency: cross entropy of the pose code over the prototypes."""
    temperature: Positive = hparam(0.1)
    """Of the contrast term."""
    protection_margin: NonNegative = hparam(0.01)
    """Loss of cosine that similarity_protection lets pass."""
    exclude_self: bool = False
    """contrast: leave a row itself out of its denominator. The original leaves exp(1 / temperature)
    - 1 of it in."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniversalFaceRunConfig(RunConfig):
    """Pose-invariant identity from embeddings of faces: side view to frontal."""

    RECIPE: ClassVar[str] = "universal_face"

    epochs: Count = 150
    select_metric: str = "cosine_similarity"
    select_mode: Literal["min", "max"] = "max"
    data: FaceDataConfig = dataclasses.field(default_factory=FaceDataConfig)
    optim: OptimConfig = dataclasses.field(
        default_factory=lambda: OptimConfig(learning_rate=1e-4, weight_decay=1e-5, clip_norm=1.0)
    )
    lr_schedule: LrScheduleConfig = dataclasses.field(
        default_factory=lambda: LrScheduleConfig(
            monitor="cosine_similarity", mode="max", patience_epochs=10, min_learning_rate=1e-6
        )
    )
    ema: EmaConfig = dataclasses.field(default_factory=lambda: EmaConfig(enabled=False))
    model: UniversalFaceConfig = dataclasses.field(default_factory=UniversalFaceConfig)
    attention_dropout: Share = hparam(0.1, "attention_dropout_rate")
    """Dropout of the attention probabilities, whatever model.dropout is."""
    pose_text_clip: str | None = None
    """model.use_clip_pose_encoder: folder or file of a CLIP, whose text tower a new run reads.
    "checkpoint": what it said is in the run's checkpoint already (imported runs have this)."""
    pose_text_dropout: Share = hparam(0.1, "pose_text_dropout_rate")
    """model.use_clip_pose_encoder: dropout of the codes of phrases."""
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    train_loss_projections: bool = True
    """Train the map from identity codes to embeddings. Off: it stays at its random draw, as in the
    original, whose optimizer does not see it."""
