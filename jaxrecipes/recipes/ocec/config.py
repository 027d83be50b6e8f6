"""The config of the OCEC recipe: every option of its source document is a field."""

import dataclasses
from typing import ClassVar, Literal

from jaxrecipes.models.ocec import OcecConfig
from jaxrecipes.train.config import DataConfig, RunConfig, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class EyeDataConfig(DataConfig):
    """Eye crops. `path` is a parquet file or a folder of them; None: procedural eyes drawn from the
    seed.
    """

    image_size: tuple[int, int] = (24, 40)
    """Height and width in pixels that images are resized to."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Subtracted from the channels of images in [0, 1]."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """What the channels are divided by afterwards."""
    weighted_sampling: bool = False
    """Draw training examples with replacement, both classes equally often."""
    exif_orientation: bool = True
    """Turn images as their EXIF orientation says. Off: pixels as they are stored, as in the
    original."""
    decode_workers: int | None = None
    """Threads that decode images, once. None: one per core."""
    cache_dir: str | None = None
    """Where decoded images are kept. None: the user's cache folder."""
    on_unreadable: Literal["skip", "error"] = "skip"
    """Images that cannot be decoded: list them in the run's folder and go on without them, or
    stop."""
    embedded_train: int = 8000
    """Embedded data: number of training eyes."""
    embedded_val: int = 2000
    """Embedded data: number of validation eyes."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("embedded_train", "embedded_val"):
            require(
                getattr(self, name) >= 1,
                f"data.{name} is {getattr(self, name)}; it must be at least 1",
            )
        require(
            min(self.image_size) >= 1,
            f"data.image_size is {self.image_size}; it wants height and width in pixels",
        )
        require(
            all(s > 0 for s in self.std),
            f"data.std is {self.std}; every channel's must be positive",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The loss; its numbers are hyperparameters."""

    kind: Literal["bce", "focal"] = "bce"
    """bce: binary cross entropy with pos_weight. focal: FocalLabelSmoothCE, whose probability is
    sigmoid(2 z)."""
    pos_weight: float | None = None
    """bce: weight of the open class. None: closed / open examples of the training split."""
    label_smoothing: float = 0.05
    """focal: share of the target that goes to the other class."""
    focal_gamma: float = 2.0
    """focal: exponent of (1 - p)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Augmentation inside the step. A probability of 0 without a schedule leaves the operation out
    of the program.
    """

    flip_prob: float = 0.5
    """Horizontal flip."""
    distort_prob: float = 0.5
    """Each step of the photometric distortion."""
    clahe_prob: float = 0.01
    """Contrast limited adaptive histogram equalisation."""
    crop_prob: float = 0.0
    """Random crop after padding with zeros."""
    crop_padding: int = 4
    """Pixels of padding on each side."""
    mixup_prob: float = 0.0
    """Batches that are mixed by Mixup."""
    mixup_alpha: float = 0.2
    """Mixup's Beta(alpha, alpha)."""
    cutmix_prob: float = 0.0
    """Batches that are mixed by CutMix."""
    cutmix_alpha: float = 1.0
    """CutMix's Beta(alpha, alpha)."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if field.name.endswith("_prob"):
                value = getattr(self, field.name)
                require(
                    0 <= value <= 1,
                    f"augment.{field.name} is {value}; a probability lies in [0, 1]",
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OcecRunConfig(RunConfig):
    """Open/closed eye classifier: small CNNs on eye crops."""

    RECIPE: ClassVar[str] = "ocec"

    select_metric: str = "f1"
    select_mode: Literal["min", "max"] = "max"
    data: EyeDataConfig = dataclasses.field(default_factory=EyeDataConfig)
    model: OcecConfig = dataclasses.field(default_factory=OcecConfig)
    drop_path_rate: float = 0.0
    """Stochastic depth: rate of the last block; it rises linearly with depth."""
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
