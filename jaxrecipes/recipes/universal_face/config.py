"""The config of the universal face recipe; its defaults are those of the source document."""

import dataclasses
from typing import ClassVar, Literal

from jaxrecipes.fields import Checked, Count, Hparam, NonNegative, Positive, Share, hparam
from jaxrecipes.recipes.faces.data import FaceDataConfig
from jaxrecipes.recipes.universal_face.network import UniversalFaceConfig
from jaxrecipes.train.config import EmaConfig, OptimConfig, PlateauConfig, RunConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig(Checked):
    """The seven terms of the loss."""

    lambda_id: Hparam[NonNegative] = hparam(
        3.0, name="loss_weight/id_similarity", search=(0.5, 5.0)
    )
    """Weight of id_similarity: the identity code, projected, against the frontal embedding."""
    lambda_pose: Hparam[NonNegative] = hparam(0.2, name="loss_weight/pose")
    """Weight of pose: mean absolute error of the estimated angles, in degrees."""
    lambda_ortho: Hparam[NonNegative] = hparam(0.05, name="loss_weight/ortho")
    """Weight of ortho: alignment of the identity and pose projections."""
    lambda_contrast: Hparam[NonNegative] = hparam(
        0.1, name="loss_weight/contrast", search=(0.01, 1.0), log=True
    )
    """Weight of contrast: InfoNCE on the identity codes of a batch."""
    lambda_reconstruction: Hparam[NonNegative] = hparam(
        0.5, name="loss_weight/reconstruction", search=(0.05, 2.0), log=True
    )
    """Weight of reconstruction: mean squared error of the projected identity code."""
    lambda_similarity_protection: Hparam[NonNegative] = hparam(
        1.0, name="loss_weight/similarity_protection"
    )
    """Weight of similarity_protection: what the identity code loses compared with the features it
    is made from."""
    lambda_pose_consistency: Hparam[NonNegative] = hparam(0.1, name="loss_weight/pose_consistency")
    """Weight of pose_consistency: cross entropy of the pose code over the prototypes."""
    temperature: Hparam[Positive] = hparam(0.1, search=(0.05, 0.5), log=True)
    """Of the contrast term."""
    protection_margin: Hparam[NonNegative] = hparam(0.01)
    """Loss of cosine similarity that similarity_protection tolerates."""
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
        default_factory=lambda: OptimConfig(
            learning_rate=1e-4, min_learning_rate=1e-6, weight_decay=1e-5, clip_norm=1.0
        )
    )
    plateau: PlateauConfig = dataclasses.field(
        default_factory=lambda: PlateauConfig(
            monitor="cosine_similarity", mode="max", patience_epochs=10
        )
    )
    ema: EmaConfig = dataclasses.field(default_factory=lambda: EmaConfig(enabled=False))
    model: UniversalFaceConfig = dataclasses.field(default_factory=UniversalFaceConfig)
    attention_dropout: Hparam[Share] = hparam(0.1, name="attention_dropout_rate", off_at_zero=True)
    """Dropout of the attention probabilities, whatever model.dropout is."""
    pose_text_clip: str | None = None
    """model.use_clip_pose_encoder: folder or file of a CLIP, whose text tower a new run reads.
    "checkpoint": its features are already in the run's checkpoint (as in imported runs)."""
    pose_text_dropout: Hparam[Share] = hparam(
        0.1,
        name="pose_text_dropout_rate",
        when=lambda config: config.model.use_clip_pose_encoder,
        off_at_zero=True,
    )
    """model.use_clip_pose_encoder: dropout of the phrase codes."""
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    train_loss_projections: bool = True
    """Train the map from identity codes to embeddings. Off: it keeps its random initial values, as
    in the original, whose optimizer does not include it."""
