"""The config of the hand_pose recipe; its defaults are those of the source document with the
author's later fixes.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Interval

from jaxrecipes.data.augment.pixels import GROUPS, PixelAugment, PixelGroup, Turn
from jaxrecipes.fields import (
    Checked,
    Count,
    CountOrZero,
    Hparam,
    NonNegative,
    Pixels,
    Positive,
    Probability,
    Seed,
    Share,
    hparam,
    ordered,
)
from jaxrecipes.models.dinov2.config import Dinov2Config, PosInterp, dinov2_config
from jaxrecipes.models.hand.mano import FINGERTIPS
from jaxrecipes.recipes.hand_pose.augment import PRINCPT_NOISE
from jaxrecipes.recipes.hand_pose.network_config import (
    HandDecoderConfig,
    HandPoseConfig,
    PerspectiveConfig,
)
from jaxrecipes.recipes.hand_pose.shards import Decode
from jaxrecipes.train.config import (
    DataConfig,
    EmaConfig,
    LoopConfig,
    OptimConfig,
    RunConfig,
    require,
)
from jaxrecipes.train.old_configs import number_or_text

SMALL = HandPoseConfig(
    backbone=Dinov2Config(
        width=96,
        depth=3,
        num_heads=3,
        patch_size=8,
        image_size=40,
        init_std=0.08,
        position_std=0.5,
    ),
    img_size=40,
    persp_info_embed=PerspectiveConfig(type="dense"),
    handec=HandDecoderConfig(
        num_layer=2, num_head=4, dim_head=24, dim_mlp=192, heatmap_resolution=(64, 64, 128)
    ),
)
"""A network that learns from scratch on synthetic data within minutes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneSource(Checked):
    """Which DINOv2 the features come from."""

    size: Literal["vit_s_14", "vit_b_14", "vit_l_14", "vit_g_14", "custom"] = "vit_l_14"
    """One of the published sizes, or custom: the fields of model.backbone."""
    num_registers: Literal[0, 4] = 0
    """Of a published size: 4 for the weights with registers."""
    weights: str | None = None
    """Folder of Hugging Face, or file of weights, to start from. None: from scratch, which is for
    small networks."""
    from_scratch: bool = False
    """Allow training a published size without weights, init_from or first_stage. Not needed for
    size custom."""
    pos_interp: PosInterp | None = None
    """Of a published size: how the position table is interpolated. None: as Hugging Face does."""
    learning_rate: Hparam[NonNegative | None] = hparam(
        1e-5, name="backbone_rate_factor", search=(0.1, 10.0), log=True, relative=True
    )
    """Its learning rate at the peak of optim's schedule, which it follows; the log shows it as a
    factor on optim's rate. None: freeze the backbone."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DropoutConfig(Checked):
    """Progressive dropout of the decoder: none at first, then a rate."""

    rate: Hparam[Share] = hparam(0.1, name="dropout_rate", search=(0.0, 0.3))
    """The final rate. A schedule here replaces warmup_steps and ramp_steps."""
    warmup_steps: CountOrZero = 10_000
    """Updates without dropout."""
    ramp_steps: CountOrZero = 0
    """Updates over which it then rises to its rate. 0: at once."""
    scope: Literal["all", "listed"] = "all"
    """all: every dropout of the decoder. listed: the dropout of attention outputs has the full rate
    from the first step on, as in the source document's code."""
    output_rate: Hparam[Share | None] = hparam(None, name="output_dropout_rate")
    """Dropout rate of attention outputs. None: as scope says."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig(Checked):
    """The loss."""

    lambda_theta: Hparam[NonNegative] = hparam(3.0, name="loss_weight/theta")
    """Weight of the pose's absolute error."""
    lambda_shape: Hparam[NonNegative] = hparam(3.0, name="loss_weight/shape")
    """Weight of the shape's absolute error."""
    lambda_trans: Hparam[NonNegative] = hparam(0.05, name="loss_weight/trans")
    """Weight of the root's heatmaps (or of its absolute error)."""
    lambda_rel: Hparam[NonNegative] = hparam(0.012, name="loss_weight/joint_rel")
    """Weight of the joints' error relative to the wrist, mm."""
    lambda_img: Hparam[NonNegative] = hparam(0.002, name="loss_weight/joint_img")
    """Weight of the joints' error in the image, px."""
    fk_grad: bool = True
    """Let the joints' terms reach the pose. Off: they do not, as in the source document's code."""
    norm_eps: Hparam[NonNegative] = hparam(1e-6, in_program=True)
    """Lower bound of a hand's length, which keeps the loss finite if all joints coincide."""
    reproj_type: Literal["l1", "robust_l1"] = "l1"
    """The error in the image: absolute, or damped from reproj_delta on."""
    reproj_delta: Hparam[Positive] = hparam(84.0, when=lambda loss: loss.reproj_type == "robust_l1")
    """robust_l1: pixels."""
    supervise_heatmap: bool = True
    """Learn the root from soft targets on its heatmaps. Off: from its absolute error."""
    heatmap_sigma: Hparam[Positive] = hparam(0.09, when=lambda loss: loss.supervise_heatmap)
    """Width of the soft targets, in the unit of the root; at least 0.7 of the bins' spacing."""
    reduction: Literal["all", "valid"] = "all"
    """Means over all elements, with unlabelled ones counting as zero, or only over the labelled
    ones."""


Tilt = Annotated[float, Interval(ge=0, lt=math.pi / 2)]


def _in_pixels(_: "PixelStrengths") -> bool:
    return False  # the hyperparameters are those of `AugmentConfig.pixel_augment`


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixelStrengths(Checked):
    """Strengths that replace those of augment.pixels; None: keep those."""

    jitter_prob: Hparam[Probability | None] = hparam(None, when=_in_pixels)
    """Colour jitter."""
    brightness: Hparam[NonNegative | None] = hparam(None, when=_in_pixels)
    """Its factor is uniform in 1 +- this."""
    contrast: Hparam[NonNegative | None] = hparam(None, when=_in_pixels)
    """Its factor is uniform in 1 +- this."""
    saturation: Hparam[NonNegative | None] = hparam(None, when=_in_pixels)
    """Its factor is uniform in 1 +- this."""
    hue: Hparam[Turn | None] = hparam(None, when=_in_pixels)
    """The rotation of the hue is uniform in +- this share of the colour circle."""
    blur_prob: Hparam[Probability | None] = hparam(None, when=_in_pixels)
    """Gaussian blur."""
    blur_sigma_min: Hparam[Positive | None] = hparam(None, when=_in_pixels)
    """Its smallest standard deviation, in pixels."""
    blur_sigma_max: Hparam[Positive | None] = hparam(None, when=_in_pixels)
    """Its largest standard deviation, in pixels."""
    noise_prob: Hparam[Probability | None] = hparam(None, when=_in_pixels)
    """Gaussian noise."""
    noise_std: Hparam[NonNegative | None] = hparam(None, when=_in_pixels)
    """Its standard deviation; pixels are 0 to 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig(Checked):
    """How patches are cut out, and how training varies them."""

    expansion_ratio: Positive = 2.0
    """Side of the patch, as a multiple of the longer side of the hand's box."""
    crop: Literal["warp", "affine"] = "warp"
    """Sampling of augmented patches: a homography, or the affine crop of the source document's
    code. Validation is always affine."""
    scale_z_min: Hparam[Positive] = hparam(0.9)
    """Smallest factor on the hand's depth."""
    scale_z_max: Hparam[Positive] = hparam(1.1)
    """Largest factor on the hand's depth."""
    scale_f_min: Hparam[Positive] = hparam(0.9)
    """Smallest factor on the focal length."""
    scale_f_max: Hparam[Positive] = hparam(1.1)
    """Largest factor on the focal length."""
    in_plane_rot_max: Hparam[NonNegative] = hparam(math.pi)
    """Largest rotation of the image in either direction, in radians. pi: any."""
    persp_rot_max: Hparam[Tilt] = hparam(0.0)
    """Largest rotation of the camera, in radians."""
    persp_rot_root_fix: bool = True
    """Rotate the labelled hand with that camera. Off: do not, as in the source document's code."""
    perspective_normalization: bool = False
    """Turn the camera towards the hand, in validation too; persp_rot_max then has no effect."""
    princpt_noise: Hparam[NonNegative] = hparam(PRINCPT_NOISE)
    """Spread of the principal point, as a fraction of its distance from the image's corner."""
    pixels: PixelGroup = "default"
    """Changes of colour, noise and blur, with the strengths of the source document."""
    strengths: PixelStrengths = dataclasses.field(default_factory=PixelStrengths)

    def __post_init__(self):
        super().__post_init__()
        for name in ("scale_z", "scale_f"):
            low, high = getattr(self, f"{name}_min"), getattr(self, f"{name}_max")
            require(
                ordered(low, high),
                f"augment.{name}_min and {name}_max are {low} and {high}; expected min <= max",
            )

    @property
    def pixel_augment(self) -> PixelAugment:
        """The operations on pixels and their strengths."""
        given = {name: value for name, value in vars(self.strengths).items() if value is not None}
        return dataclasses.replace(GROUPS[self.pixels], **given)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HandDataConfig(DataConfig):
    """Tar shards of hand sequences. `path` is a folder, a tar or a pattern; None: rendered
    hands.
    """

    batch_size: Count = 32
    """Global batch: clips of all devices together, in one micro-batch."""
    eval_batch_size: Count = 32
    """Global batch of validation and test."""
    val_path: str | None = None
    """Shards to validate on. None: data.path holds folders `train` and `val`."""
    stride: Count = 1
    """Frames between the starts of consecutive training clips."""
    val_stride: Count = 1
    """The same for validation."""
    val_seed: Seed = 42
    """Seed that alone decides which clips are validated on, and in which order."""
    max_val_clips: Count | None = 32_000
    """Largest number of validation clips. None: all."""
    decode: Decode = "cache"
    """cache: images are decoded once and kept on disk as pixels. lazy: they are decoded for each
    batch, for data sets that are too large for that."""
    exif_orientation: bool = True
    """Turn images as their EXIF orientation says. Off: keep pixels as they are stored. Labels refer
    to the pixels after that."""
    cache_dir: str | None = None
    """Where decoded images and labels are kept. None: the user's cache folder."""
    order: Literal["shuffle", "shards"] = "shuffle"
    """Training order: all clips shuffled, or shards one after the other through shuffle buffers,
    which reads large data sets almost sequentially."""
    depth_bins: Count | None = None
    """Sample so that each of this many equal bins of depth is equally likely. None: off."""
    source_weights: dict[str, NonNegative] = dataclasses.field(default_factory=dict)
    """Source of the clips -> how likely it is to be sampled. Empty: off."""
    embedded_train: Count = 4000
    """Synthetic data: number of training clips."""
    embedded_val: Count = 500
    """Synthetic data: number of validation clips."""
    embedded_image_size: Pixels = 128
    """Synthetic data: height and width of the rendered images."""
    embedded_max_angle: Annotated[float, Interval(ge=0, le=180)] = 180.0
    """Synthetic data: hands are rotated by up to this many degrees. 180: any direction."""

    def __post_init__(self):
        super().__post_init__()
        require(
            self.path is not None or self.val_path is None,
            f"data.val_path is {self.val_path}, but without data.path hands are rendered; give the "
            "shards to train on as data.path",
        )
        require(
            self.depth_bins is None or not self.source_weights,
            "data.depth_bins and data.source_weights are both given; choose one",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class HandSource(Checked):
    """The hand model."""

    file: str | None = None
    """MANO_RIGHT.pkl, or an .npz with its fields. None: the procedural hand."""
    joint_regressor: str | None = None
    """An .npy file `[21, V]` that regresses the joints from the vertices. None: MANO's joints and
    `fingertips`."""
    fingertips: tuple[CountOrZero, CountOrZero, CountOrZero, CountOrZero, CountOrZero] = FINGERTIPS
    """Vertices of `file` at the tips of thumb, index, middle, ring and little finger."""

    def __post_init__(self):
        super().__post_init__()
        require(
            self.file is not None or self.joint_regressor is None,
            f"hand.joint_regressor is {self.joint_regressor}, but the procedural hand has its own; "
            "give the hand that it is of as hand.file",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class HandRunConfig(RunConfig):
    """Pose, shape, position and joints of a hand in an image: DINOv2 and a transformer decoder."""

    RECIPE: ClassVar[str] = "hand_pose"

    seed: Seed = 3229084
    steps: Count | None = 100_000
    select_metric: str = "micro_mpjpe"
    data: HandDataConfig = dataclasses.field(default_factory=HandDataConfig)
    optim: OptimConfig = dataclasses.field(
        default_factory=lambda: OptimConfig(
            learning_rate=1e-4,
            schedule="warmup_cosine(rate, warmup_steps=5000, total_steps=run, num_cycles=0.4)",
            weight_decay=1e-4,
            clip_norm=1.0,
        )
    )
    ema: EmaConfig = dataclasses.field(default_factory=lambda: EmaConfig(enabled=False))
    loop: LoopConfig = dataclasses.field(
        default_factory=lambda: LoopConfig(
            steps_per_call=1, log_every_steps=10, validate_every_steps=3000, keep_latest=3
        )
    )
    backbone: BackboneSource = dataclasses.field(default_factory=BackboneSource)
    model: HandPoseConfig = dataclasses.field(
        default_factory=lambda: HandPoseConfig(backbone=dinov2_config("vit_l_14"))
    )
    hand: HandSource = dataclasses.field(default_factory=HandSource)
    dropout: DropoutConfig = dataclasses.field(default_factory=DropoutConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)

    @property
    def network(self) -> HandPoseConfig:
        """The architecture."""
        source = self.backbone
        if source.size == "custom":
            backbone = self.model.backbone
        else:
            backbone = dataclasses.replace(
                dinov2_config(source.size, num_registers=source.num_registers),
                pos_interp=source.pos_interp,
            )
        return dataclasses.replace(self.model, backbone=backbone)

    @classmethod
    def upgraded(cls, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Converts what an earlier version stored, in which schedules had the names that they have
        in the log.
        """
        texts, dropout = dict(stored.get("schedules", {})), dict(stored.get("dropout", {}))
        own = {name: number_or_text(texts.pop(name)) for name in _STRENGTHS if name in texts}
        values = _with_one_remat(stored)
        if own:
            values["augment"] = {**values.get("augment", {}), "strengths": own}
        if "dropout_rate" in texts:
            text = texts.pop("dropout_rate")
            # A schedule even if it is a number, because the warm-up does not apply to it.
            text = f"constant({text})" if isinstance(number_or_text(text), float) else text
            values["dropout"] = dropout | {"rate": text}
            if dropout.get("scope") == "listed":
                values["dropout"].setdefault("output_rate", dropout.get("rate", DropoutConfig.rate))
        if "backbone_rate_factor" in texts:
            rate = values["optim"]["learning_rate"]
            texts["backbone_rate_factor"] = f"scale({texts['backbone_rate_factor']}, {rate!r})"
        return super().upgraded(values | ({"schedules": texts} if "schedules" in stored else {}))


def _with_one_remat(stored: Mapping[str, Any]) -> dict[str, Any]:
    """`remat` was a field of the backbone, and of its architecture."""
    values = dict(stored)
    for place in ("backbone", "model"):
        section = dict(values.get(place, {}))
        inner = dict(section.get("backbone", {}))
        if section.pop("remat", False) or inner.pop("remat", False):
            values["remat"] = True
        if inner:
            section["backbone"] = inner
        if section:
            values[place] = section
    return values


_STRENGTHS = tuple(field.name for field in dataclasses.fields(PixelStrengths))
