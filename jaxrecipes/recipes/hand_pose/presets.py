"""hand_pose presets: `configs/hand_pose.py` (the default), `configs/hand_pose.py:stage1`,
`configs/hand_pose.py:before` ...

All but the default and default_before start from weights of DINOv2 and read tar shards; bring them
with --backbone.weights and --data.path. docs/hand_pose.md describes them.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from jaxrecipes.errors import named
from jaxrecipes.recipes.hand_pose.config import (
    SMALL,
    AugmentConfig,
    BackboneSource,
    DropoutConfig,
    HandDataConfig,
    HandRunConfig,
    LossConfig,
)
from jaxrecipes.recipes.hand_pose.network_config import TemporalConfig
from jaxrecipes.train.config import LoopConfig, OptimConfig

if TYPE_CHECKING:
    from jaxrecipes.tune.space import Space

# A small network from scratch on rendered hands: takes less than three minutes on two cores.
DEFAULT = HandRunConfig(
    steps=1500,
    select_metric="micro_mpjpe_rel",
    data=HandDataConfig(embedded_image_size=96, embedded_max_angle=45.0),
    optim=OptimConfig(
        learning_rate=1.5e-3,
        schedule="warmup_cosine(rate, warmup_steps=100, total_steps=run)",
        weight_decay=1e-4,
        clip_norm=1.0,
    ),
    loop=LoopConfig(log_every_steps=10, validate_every_steps=300, keep_latest=3),
    backbone=BackboneSource(size="custom", learning_rate=1.5e-3),
    model=SMALL,
    dropout=DropoutConfig(warmup_steps=500),
    loss=LossConfig(lambda_shape=0.3, lambda_rel=0.05, heatmap_sigma=0.2),
    augment=AugmentConfig(expansion_ratio=1.2, in_plane_rot_max=0.15),
)

# A few hundred real images with joints: from a run of the default, with more augmentation.
FEW_IMAGES = replace(
    DEFAULT,
    steps=1200,
    init_from="runs/default",
    data=HandDataConfig(path="hands"),
    optim=replace(DEFAULT.optim, learning_rate=1e-3),
    backbone=replace(DEFAULT.backbone, learning_rate=1e-3),
    augment=replace(DEFAULT.augment, in_plane_rot_max=0.5, persp_rot_max=0.3, pixels="aggressive"),
)

# The default as the source document was before its changes: dropout from the first step on, and
# other validation samples each time.
DEFAULT_BEFORE = replace(
    DEFAULT,
    dropout=DropoutConfig(warmup_steps=0),
    data=replace(DEFAULT.data, val_examples_per_pass=128),
)

# The source document's hyperparameters with the author's later fixes.
STAGE1 = HandRunConfig(
    precision="bfloat16",
    data=HandDataConfig(path="hands"),
    backbone=BackboneSource(weights="dinov2-large"),
)

# The source document's code, quirks included.
STAGE1_SEED = replace(
    STAGE1,
    precision="float32",
    dropout=DropoutConfig(scope="listed"),
    loss=LossConfig(fk_grad=False, norm_eps=0.0),
    augment=AugmentConfig(
        crop="affine", persp_rot_root_fix=False, scale_z_min=1.0, scale_z_max=1.0
    ),
)

# The baseline of the source document's comparison.
BEFORE = replace(
    STAGE1,
    dropout=DropoutConfig(warmup_steps=0),
    data=replace(STAGE1.data, max_val_clips=None, val_examples_per_pass=32_000),
)

# Only the temporal refiner is trained, on clips of 7 frames, from a run of stage1.
STAGE2 = replace(
    STAGE1,
    steps=50_000,
    init_from="runs/stage1",
    data=replace(STAGE1.data, batch_size=6, eval_batch_size=6, max_val_clips=6000),
    optim=replace(STAGE1.optim, frozen=("^(?!temporal_refiner/)",)),
    backbone=BackboneSource(learning_rate=None),
    model=replace(STAGE1.model, num_frame=7, temporal=TemporalConfig()),
)

PRESETS = {
    "default": DEFAULT,
    "default_before": DEFAULT_BEFORE,
    "few_images": FEW_IMAGES,
    "stage1": STAGE1,
    "stage1_seed": STAGE1_SEED,
    "stage1_base": replace(STAGE1, backbone=BackboneSource(size="vit_b_14", weights="dinov2-base")),
    "stage1_small": replace(
        STAGE1, backbone=BackboneSource(size="vit_s_14", weights="dinov2-small")
    ),
    "frozen_backbone": replace(
        STAGE1, backbone=BackboneSource(weights="dinov2-large", learning_rate=None)
    ),
    "before": BEFORE,
    "stage2": STAGE2,
}


def get_config(preset: str = "default") -> HandRunConfig:
    """The config of a preset.

    Raises:
      ValueError: there is no such preset; the nearest is named.
    """
    return named("preset", preset, PRESETS)


def search_space(config: HandRunConfig) -> "Space":
    """What `tune` varies: numbers, so that one compiled program serves all trials.

    The loss's weights are searched where trials are compared by an error, not by that loss.
    """
    from jaxrecipes.tune.space import Float, declared_space

    space = declared_space(config)
    if config.select_metric.startswith("loss"):
        return space
    terms = ("lambda_trans", "lambda_rel", "lambda_img")
    weights = {f"loss.{name}": getattr(config.loss, name) for name in terms}
    numbers = {name: w for name, w in weights.items() if not isinstance(w, str) and w > 0}
    return space.with_parameters(
        {name: Float(w / 5, w * 5, log=True) for name, w in numbers.items()}
    )
