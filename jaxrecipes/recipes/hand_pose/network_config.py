"""Configuration of the hand_pose network, and of the files that it reads when it is initialised."""

import dataclasses
from typing import Annotated, Literal

from annotated_types import Interval

from jaxrecipes.fields import Checked, Count, CountOrZero, Layers, Pixels, Positive
from jaxrecipes.models.dinov2.config import Dinov2Config
from jaxrecipes.models.hand.joints import (
    NORM_ROOT_MEAN,
    NORM_ROOT_STD,
    NUM_ROTATIONS,
    ROOT_MEAN,
    ROOT_STD,
    SHAPE_SIZE,
)
from jaxrecipes.models.hand.rotations import JointType, rotation_width

PerspectiveType = Literal["ca", "dense", "none"]
PieFusion = Literal["all", "patch"]
Triple = tuple[float, float, float]
Stds = tuple[Positive, Positive, Positive]

_RANGE_STDS = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerspectiveConfig(Checked):
    """How the features learn about the camera's view through the patch."""

    type: PerspectiveType = "ca"
    """ca: the features attend to a grid of viewing rays. dense: an MLP turns the rays into one
    vector that is added to the features. none: nothing."""
    num_sample: Count = 8
    """Rays along each side of the patch."""
    pie_fusion: PieFusion = "all"
    """dense: add the vector to all tokens, or to those of patches only."""

    def __post_init__(self):
        if self.pie_fusion == "cls":
            raise ValueError(
                "persp_info_embed.pie_fusion 'cls' adds the vector to no token in the original: "
                "give 'all' or 'patch', or --persp_info_embed.type none for what 'cls' computed"
            )
        super().__post_init__()


@dataclasses.dataclass(frozen=True, kw_only=True)
class HandDecoderConfig(Checked):
    """The decoder with a single token, and its heads; its dropout rates are hyperparameters."""

    num_layer: Count = 4
    """Layers of self-attention, cross-attention and feed-forward part."""
    num_head: Count = 16
    """Attention heads."""
    dim_head: Count = 64
    """Channels of a head."""
    dim_mlp: Count = 4096
    """Hidden channels of the feed-forward part."""
    width: Count | None = None
    """Channels of the token; None: the backbone's."""
    use_mean_init: str | None = None
    """An .npz with `pose` [96] (6-D), `shape` [10] and `cam` [3], the decoder's constant query. It
    is read when the network is initialised. None: random numbers, kept with the weights."""
    denorm_output: str | None = None
    """An .npz with `mean` [61] and `cov` [61, 61] of pose, shape and root, by which the outputs are
    scaled; read when the network is initialised. For joint_type 3."""
    heatmap_resolution: tuple[Annotated[int, Interval(ge=2)], ...] = (512, 512, 1024)
    """Bins of the root's position along x, y and z; one number stands for all three."""

    def __post_init__(self):
        given = self.heatmap_resolution
        bins = tuple(given) if isinstance(given, list | tuple) else (given,)
        object.__setattr__(self, "heatmap_resolution", bins * 3 if len(bins) == 1 else bins)
        super().__post_init__()
        if len(bins) not in (1, 3):
            raise ValueError(
                f"handec.heatmap_resolution is {given!r}; expected one number of bins, or "
                "three (x, y, z)"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TemporalConfig(Checked):
    """The refiner of stage 2, in which the tokens of a clip attend to earlier ones."""

    layers: Layers = 2
    """Layers of self-attention and feed-forward part."""
    heads: Count = 16
    """Attention heads; the channels of a head must be even."""
    trope_scalar: Positive = 20.0
    """Milliseconds per unit of the rotary positions."""
    zero_linear: bool = True
    """Start with a correction of zero."""

    def __post_init__(self):
        super().__post_init__()


@dataclasses.dataclass(frozen=True, kw_only=True)
class HandPoseConfig(Checked):
    """The network: a backbone, perspective information, a decoder and, for clips, a refiner."""

    backbone: Dinov2Config
    """The vision transformer."""
    img_size: Pixels = 224
    """Height and width of the patches that the network sees, in pixels."""
    img_mean: Triple = (0.485, 0.456, 0.406)
    """Subtracted from patches in [0, 1] before the network."""
    img_std: Stds = (0.229, 0.224, 0.225)
    """Divisor of the patches after that."""
    num_frame: Count = 1
    """Frames of a clip."""
    joint_type: JointType = "3"
    """Representation of rotations: 3 is axis-angle, 6d, or quat."""
    norm_by_hand: bool = True
    """Whether the root's position is in units of the hand's scale, else in mm."""
    norm_mean: Triple = NORM_ROOT_MEAN
    """Mean of the root's position in units of the hand's scale."""
    norm_std: Stds = NORM_ROOT_STD
    """Its standard deviation; the bins extend over five of them on both sides."""
    mean: Triple = ROOT_MEAN
    """Mean of the root's position in mm."""
    std: Stds = ROOT_STD
    """Its standard deviation."""
    drop_cls: bool = False
    """Leave out the class token."""
    infusion_layer: tuple[CountOrZero, ...] | None = None
    """Hidden states of the backbone that are fused into the features (0: the embedding, i: block
    i); None: only the last one."""
    persp_info_embed: PerspectiveConfig = dataclasses.field(default_factory=PerspectiveConfig)
    """Perspective information."""
    handec: HandDecoderConfig = dataclasses.field(default_factory=HandDecoderConfig)
    """Decoder and heads."""
    temporal: TemporalConfig | None = None
    """Stage 2: the refiner; None: stage 1."""

    def __post_init__(self):
        super().__post_init__()
        if self.img_size % self.backbone.patch_size:
            raise ValueError(
                f"img_size {self.img_size} is not a multiple of the backbone's patches of "
                f"{self.backbone.patch_size} pixels"
            )
        for layer in self.infusion_layer or ():
            if not 0 <= layer <= self.backbone.depth:
                raise ValueError(
                    f"infusion_layer has {layer}; the backbone's hidden states are 0 to "
                    f"{self.backbone.depth}"
                )
        if self.infusion_layer == ():
            raise ValueError("infusion_layer is empty: name a hidden state, or leave it out")
        if self.persp_info_embed.pie_fusion == "patch" and self.drop_cls:
            raise ValueError(
                "with drop_cls all tokens are patches: give --persp_info_embed.pie_fusion all"
            )
        if self.handec.denorm_output is not None and self.joint_type != "3":
            raise ValueError(
                f"handec.denorm_output is for joint_type '3', not for {self.joint_type!r}"
            )
        if self.temporal is not None and self.width % (2 * self.temporal.heads):
            raise ValueError(
                f"temporal.heads {self.temporal.heads} do not divide the token's {self.width} "
                "channels into heads of an even width"
            )

    @property
    def grid(self) -> int:
        """Rows, and columns, of the backbone's patches."""
        return self.img_size // self.backbone.patch_size

    @property
    def width(self) -> int:
        """Channels of the decoder's token."""
        return self.backbone.width if self.handec.width is None else self.handec.width

    @property
    def pose_size(self) -> int:
        """Numbers of a pose."""
        return NUM_ROTATIONS * rotation_width(self.joint_type)

    @property
    def output_size(self) -> int:
        """Numbers of pose, shape and root: the decoder's query."""
        return self.pose_size + SHAPE_SIZE + 3

    @property
    def ranges(self) -> tuple[tuple[float, float], ...]:
        """First and last bin centre of the root's position, along x, y and z."""
        stats = (self.norm_mean, self.norm_std) if self.norm_by_hand else (self.mean, self.std)
        return tuple(
            (m - _RANGE_STDS * s, m + _RANGE_STDS * s) for m, s in zip(*stats, strict=True)
        )
