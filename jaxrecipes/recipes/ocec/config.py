"""The config of the OCEC recipe: every option of its source document is a field."""

import dataclasses
from typing import ClassVar, Literal

from jaxrecipes.fields import (
    Checked,
    Count,
    CountOrZero,
    Hparam,
    NonNegative,
    Pixels,
    Positive,
    Probability,
    Share,
    hparam,
)
from jaxrecipes.recipes.ocec.network import OcecConfig
from jaxrecipes.train.config import DataConfig, RunConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class EyeDataConfig(DataConfig):
    """Eye crops. `path` is a parquet file or a folder of them; None: procedural eyes drawn from the
    seed.
    """

    image_size: tuple[Pixels, Pixels] = (24, 40)
    """Height and width in pixels that images are resized to."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Subtracted from the channels of images in [0, 1]."""
    std: tuple[Positive, Positive, Positive] = (1.0, 1.0, 1.0)
    """What the channels are divided by afterwards."""
    weighted_sampling: bool = False
    """Draw training examples with replacement, both classes equally often."""
    exif_orientation: bool = True
    """Turn images as their EXIF orientation says. Off: keep pixels as they are stored, like the
    original."""
    decode_workers: Count | None = None
    """Threads that decode images, once. None: one per core."""
    cache_dir: str | None = None
    """Where decoded images are kept. None: the user's cache folder."""
    on_unreadable: Literal["skip", "error"] = "skip"
    """Images that cannot be decoded: list them in the run's folder and continue without them, or
    stop."""
    embedded_train: Count = 8000
    """Synthetic data: number of training eyes."""
    embedded_val: Count = 2000
    """Synthetic data: number of validation eyes."""


def _is_focal(loss: "LossConfig") -> bool:
    return loss.kind == "focal"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig(Checked):
    """The loss."""

    kind: Literal["bce", "focal"] = "bce"
    """bce: binary cross entropy with pos_weight. focal: FocalLabelSmoothCE, whose probability is
    sigmoid(2 z)."""
    weight: Hparam[NonNegative] = hparam(1.0, name="loss_weight/{kind}")
    """Weight of the loss."""
    pos_weight: Hparam[Positive | None] = hparam(None, when=lambda loss: loss.kind == "bce")
    """bce: weight of the open class. None: closed / open examples of the training split."""
    label_smoothing: Hparam[Share] = hparam(0.05, search=(0.0, 0.2), when=_is_focal)
    """focal: share of the target that goes to the other class."""
    focal_gamma: Hparam[NonNegative] = hparam(2.0, search=(0.5, 5.0), when=_is_focal)
    """focal: exponent of (1 - p)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig(Checked):
    """Augmentation inside the step. A probability of 0 leaves the operation out of the program."""

    flip_prob: Hparam[Probability] = hparam(0.5, off_at_zero=True)
    """Horizontal flip."""
    distort_prob: Hparam[Probability] = hparam(0.5, search=(0.0, 1.0), off_at_zero=True)
    """Each step of the photometric distortion."""
    clahe_prob: Hparam[Probability] = hparam(0.01, off_at_zero=True)
    """Contrast limited adaptive histogram equalisation."""
    crop_prob: Hparam[Probability] = hparam(0.0, off_at_zero=True)
    """Random crop after padding with zeros."""
    crop_padding: CountOrZero = 4
    """Pixels of padding on each side."""
    mixup_prob: Hparam[Probability] = hparam(0.0, off_at_zero=True)
    """Share of the batches that are mixed by Mixup."""
    mixup_alpha: Hparam[Positive] = hparam(0.2, when=lambda augment: augment.mixup_prob != 0)
    """Mixup's Beta(alpha, alpha)."""
    cutmix_prob: Hparam[Probability] = hparam(0.0, off_at_zero=True)
    """Share of the batches that are mixed by CutMix."""
    cutmix_alpha: Hparam[Positive] = hparam(1.0, when=lambda augment: augment.cutmix_prob != 0)
    """CutMix's Beta(alpha, alpha)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OcecRunConfig(RunConfig):
    """Open/closed eye classifier: small CNNs on eye crops."""

    RECIPE: ClassVar[str] = "ocec"

    select_metric: str = "f1"
    select_mode: Literal["min", "max"] = "max"
    data: EyeDataConfig = dataclasses.field(default_factory=EyeDataConfig)
    model: OcecConfig = dataclasses.field(default_factory=OcecConfig)
    drop_path_rate: Hparam[Share] = hparam(0.0, off_at_zero=True)
    """Stochastic depth: rate of the last block; it rises linearly with depth."""
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
