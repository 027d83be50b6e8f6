"""The config of the clip_iqa recipe; its defaults are those of the source document."""

import dataclasses
from typing import Annotated, ClassVar, Literal

from annotated_types import Interval

from jaxrecipes.correlation import LogisticFit
from jaxrecipes.fields import (
    Checked,
    Count,
    CountOrZero,
    Fraction,
    Hparam,
    NonNegative,
    Pixels,
    Probability,
    Seed,
    Share,
    hparam,
    ordered,
)
from jaxrecipes.models.clip.config import (
    PUBLISHED,
    Activation,
    ClipConfig,
    ClipTextConfig,
    ClipVisionConfig,
)
from jaxrecipes.models.clip.tokenizer import Cleaning
from jaxrecipes.recipes.clip_iqa.network_config import ClipIqaConfig, HeadsConfig
from jaxrecipes.train.config import (
    DataConfig,
    EarlyStoppingConfig,
    EmaConfig,
    OptimConfig,
    PlateauConfig,
    RunConfig,
    require,
)

Area = Annotated[float, Interval(gt=0, le=1)]
"""A share of an image."""

SMALL = ClipConfig(
    vision=ClipVisionConfig(
        image_size=32, patch_size=4, width=64, depth=3, num_heads=4, mlp_width=128
    ),
    text=ClipTextConfig(width=64, depth=2, num_heads=4, mlp_width=128, context_length=32),
    projection_dim=64,
)
"""A CLIP that learns from scratch on synthetic data within minutes."""

SIZES = {
    "vit_b_32": "ViT-B/32",
    "vit_b_16": "ViT-B/16",
    "vit_l_14": "ViT-L/14",
    "vit_l_14_336": "ViT-L/14@336",
}
"""Names of the published sizes here, and in `jaxrecipes.models.clip.config.PUBLISHED`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipSource(Checked):
    """Which CLIP is fine-tuned."""

    size: Literal["vit_b_32", "vit_b_16", "vit_l_14", "vit_l_14_336", "custom"] = "vit_l_14"
    """One of the sizes that OpenAI published, or custom: the fields of clip.custom."""
    weights: str | None = None
    """Folder of Hugging Face or open_clip, or file of weights, to start from. None: from scratch,
    which is for small towers."""
    from_scratch: bool = False
    """Allow training a published size without weights, init_from or first_stage. Not needed for
    size custom."""
    activation: Activation = "quick_gelu"
    """Of a published size: quick_gelu for OpenAI's weights, gelu for most of LAION's."""
    image_size: Pixels | None = None
    """Height and width of the images in pixels; positions of weights are resized. None: as the
    weights'."""
    custom: ClipConfig = dataclasses.field(default_factory=lambda: SMALL)
    """Size custom: the two towers."""

    def __post_init__(self):
        super().__post_init__()
        patch = self._published.vision.patch_size
        require(
            self.image_size is None or self.image_size >= patch,
            f"clip.image_size is {self.image_size}; a patch has {patch} pixels",
        )

    @property
    def _published(self) -> ClipConfig:
        return self.custom if self.size == "custom" else PUBLISHED[SIZES[self.size]]

    @property
    def original(self) -> ClipConfig:
        """The architecture that the weights must have."""
        config = self._published
        if self.size == "custom":
            return config
        vision = dataclasses.replace(config.vision, activation=self.activation)
        text = dataclasses.replace(config.text, activation=self.activation)
        return dataclasses.replace(config, vision=vision, text=text)

    @property
    def architecture(self) -> ClipConfig:
        """The two towers that are trained."""
        config = self.original
        size = self.image_size or config.vision.image_size
        vision = dataclasses.replace(config.vision, image_size=size)
        return dataclasses.replace(config, vision=vision)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FreezeConfig(Checked):
    """Which part of CLIP is not trained. What is frozen has no gradient, moments or decay."""

    mode: Literal["none", "clip", "partial"] = "none"
    """none: everything is trained. clip: only the heads are. partial: all embeddings and the first
    layers of both towers are frozen."""
    layers: CountOrZero = 8
    """partial: number of frozen layers, from the first on; all of them if a tower has fewer."""
    plan: dict[Count, CountOrZero] = dataclasses.field(default_factory=dict)
    """partial: progressive unfreezing. Epoch, from 1 -> layers from then on, in place of layers."""
    restart: bool = False
    """With plan: each stage begins with new moments and with a learning-rate schedule of its own,
    warm-up included, for the length of the stage. Off: one optimizer and one schedule."""
    pre_norm: bool = False
    """partial: freeze the norm before the image tower's first layer, too, so that the backward
    pass ends at the first trained layer. The original trains it."""

    def __post_init__(self):
        super().__post_init__()
        require(
            not self.plan or self.mode == "partial",
            f"freeze.plan is for freeze.mode 'partial', which is {self.mode!r}",
        )
        require(
            bool(self.plan) or not self.restart,
            "freeze.restart is for freeze.plan, which is empty",
        )
        require(
            not self.plan or min(self.plan) == 1,
            f"freeze.plan {self.plan} must say what holds in epoch 1",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig(Checked):
    """The loss."""

    w_q: Hparam[NonNegative] = hparam(0.5, name="loss_weight/quality")
    """Weight of the squared error of the quality."""
    w_c: Hparam[NonNegative] = hparam(0.5, name="loss_weight/consistency")
    """Weight of the squared error of the consistency."""
    w_exp: Hparam[NonNegative] = hparam(
        0.1, name="loss_weight/explanation", when=lambda loss: loss.explanations
    )
    """Weight of the explanation's term, which is a mean over the embedding and so at most 4 / its
    dimension."""
    explanations: bool = False
    """Also learn from explanations, which the data must have."""
    label_smoothing: Hparam[Share] = hparam(0.0)
    """Share of a target that is replaced by 0.5, the middle of the scale."""


def _is_enabled(augment: "AugmentConfig") -> bool:
    return augment.enabled


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig(Checked):
    """Augmentation inside the step."""

    enabled: bool = True
    """Crop and flip the training images. Off: they are treated as in evaluation."""
    crop_scale_min: Hparam[Area] = hparam(0.8, when=_is_enabled)
    """Smallest area of a crop, as a share of the image's."""
    crop_scale_max: Hparam[Area] = hparam(1.0, when=_is_enabled)
    """Largest area of a crop, as a share of the image's."""
    flip_prob: Hparam[Probability] = hparam(0.5, when=_is_enabled)
    """Horizontal flip."""

    def __post_init__(self):
        super().__post_init__()
        low, high = self.crop_scale_min, self.crop_scale_max
        require(
            ordered(low, high),
            f"augment.crop_scale_min and crop_scale_max are {low} and {high}; expected min <= max",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class IqaDataConfig(DataConfig):
    """Rated images and their prompts. `path` is a CSV file or parquet; None: synthetic scenes."""

    batch_size: Count = 32
    """Global batch: examples of all devices together, in one micro-batch."""
    eval_batch_size: Count = 64
    """Global batch of validation and test."""
    image_folder: str | None = None
    """Folder of the images of a CSV file. None: the file's own."""
    image_embeddings: bool = False
    """Learn from the parquet column image_embedding instead of images: embeddings from a network
    that is not trained. clip.custom.projection_dim is their length; the image tower is not used."""
    explanation_column: str = "explanation"
    """Column of the explanations, if loss.explanations is on. An image with an empty cell is
    trained on its scores only."""
    split: Literal["auto", "rows", "prompts"] = "auto"
    """auto: the column `split` if the data has one, else rows. rows: as in the original, so the two
    sides share prompts. prompts: they share none."""
    test_size: Fraction = 0.2
    """Share of the rows, or of the prompts, that is held out."""
    split_seed: Seed = 42
    """Seeds the split."""
    official_preprocessing: bool = False
    """Evaluate on a central crop with bicubic resampling, as CLIP's authors do. Off: the whole
    image, squashed, bilinear."""
    eval_size: Count | None = None
    """Height and width to which images are resized in evaluation; the network sees the centre.
    None: the network's own size, so that it sees everything."""
    cleaning: Cleaning = "huggingface"
    """Cleaning of texts before they are tokenised; the two differ only for unusual characters."""
    stored_size: Count | None = None
    """Larger training images are stored with this height and width, and cropped from there. None:
    8/7 of the network's size."""
    exif_orientation: bool = True
    """Turn images as their EXIF orientation says. Off: keep pixels as they are stored, like the
    original."""
    decode_workers: Count | None = None
    """Threads that decode images, once. None: one per core."""
    cache_dir: str | None = None
    """Where decoded images are kept. None: the user's cache folder."""
    on_unreadable: Literal["skip", "error"] = "error"
    """Images that are missing or cannot be decoded: continue without them, or stop."""
    embedded_train: Count = 4000
    """Synthetic data: number of training scenes."""
    embedded_val: Count = 600
    """Synthetic data: number of validation scenes, which have other captions."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class IqaRunConfig(RunConfig):
    """Quality of generated images and their consistency with the prompt, by fine-tuning CLIP."""

    RECIPE: ClassVar[str] = "clip_iqa"

    epochs: Count = 20
    select_metric: str = "srocc_consistency"
    select_mode: Literal["min", "max"] = "max"
    data: IqaDataConfig = dataclasses.field(default_factory=IqaDataConfig)
    optim: OptimConfig = dataclasses.field(
        default_factory=lambda: OptimConfig(
            learning_rate=3e-5,
            schedule="cosine",
            warmup_ratio=0.05,
            weight_decay=1e-4,
            clip_norm=1.0,
        )
    )
    plateau: PlateauConfig = dataclasses.field(default_factory=lambda: PlateauConfig(factor=0.1))
    ema: EmaConfig = dataclasses.field(default_factory=lambda: EmaConfig(enabled=False))
    early_stopping: EarlyStoppingConfig = dataclasses.field(
        default_factory=lambda: EarlyStoppingConfig(
            patience_epochs=5, min_delta=0.001, monitor="srocc_consistency", mode="max"
        )
    )
    clip: ClipSource = dataclasses.field(default_factory=ClipSource)
    heads: HeadsConfig = dataclasses.field(default_factory=HeadsConfig)
    freeze: FreezeConfig = dataclasses.field(default_factory=FreezeConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    plcc_fit: LogisticFit | None = None
    """Also report the linear correlation after a logistic fit with 4 or 5 parameters."""

    def __post_init__(self):
        super().__post_init__()
        require(
            not (self.freeze.restart and self.optim.schedule == "plateau"),
            "freeze.restart begins the learning rate's schedule anew, and optim.schedule 'plateau' "
            "has none; choose another",
        )
        require(
            not self.data.image_embeddings
            or (self.clip.size == "custom" and self.clip.weights is None and bool(self.data.path)),
            "data.image_embeddings is for parquet files (data.path) and a text tower from scratch "
            "(clip.size custom)",
        )
        size, shown = self.clip.architecture.vision.image_size, self.data.eval_size
        require(
            shown is None or shown >= size,
            f"data.eval_size is {shown}; the network takes images of {size} pixels, so it must be "
            "that or more",
        )

    @property
    def network(self) -> ClipIqaConfig:
        """The architecture."""
        return ClipIqaConfig(clip=self.clip.architecture, heads=self.heads)
