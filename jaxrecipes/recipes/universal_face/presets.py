"""Universal face presets: `configs/universal_face.py` (the default),
`configs/universal_face.py:seed` ...
"""

from dataclasses import replace

from jaxrecipes.errors import unknown_name
from jaxrecipes.recipes.faces.data import FaceDataConfig
from jaxrecipes.recipes.universal_face.config import LossConfig, UniversalFaceRunConfig
from jaxrecipes.recipes.universal_face.network import UniversalFaceConfig
from jaxrecipes.train.config import LrScheduleConfig, OptimConfig
from jaxrecipes.tune.space import Float, Space

# A small model on embedded data: done in under two minutes on two cores.
DEFAULT = UniversalFaceRunConfig(
    epochs=20,
    optim=OptimConfig(learning_rate=1e-3, weight_decay=1e-5, clip_norm=1.0),
    lr_schedule=LrScheduleConfig(kind="cosine", min_learning_rate=1e-5),
    model=UniversalFaceConfig(
        feat_dim=64,
        id_dim=64,
        pose_dim=32,
        num_pose_bins=36,
        transformer_depth=2,
        transformer_heads=4,
        transformer_mlp_dim=128,
        dropout=0.1,
    ),
    data=FaceDataConfig(batch_size=32, eval_batch_size=128),
)

# The program after the adjustment that the source document describes: all its defaults. The loss of
# a validation batch depends on its size, so that it is the original's.
SEED = UniversalFaceRunConfig(data=FaceDataConfig(batch_size=32, eval_batch_size=32))

# The program before the adjustment.
BEFORE = replace(
    SEED,
    lr_schedule=LrScheduleConfig(kind="step", period_epochs=20, factor=0.5),
    loss=LossConfig(
        lambda_id=2.0,
        lambda_pose=0.3,
        lambda_contrast=0.2,
        lambda_similarity_protection=0.5,
        temperature=0.07,
        protection_margin=0.0,
    ),
)

# For a few dozen people or fewer, with embeddings of 512 numbers: a small network, made-up
# identities that keep it from learning the training faces by heart, and no term that needs many
# people or poses within the prototypes' range.
FEW_PEOPLE = replace(
    DEFAULT,
    epochs=60,
    loss=LossConfig(lambda_pose=0.0, lambda_pose_consistency=0.0, lambda_contrast=0.0),
    model=replace(
        DEFAULT.model,
        feat_dim=512,
        id_dim=256,
        transformer_depth=1,
        transformer_mlp_dim=256,
        dropout=0.0,
    ),
    data=FaceDataConfig(batch_size=32, eval_batch_size=128, reflect_prob=1.0),
)

PRESETS = {"default": DEFAULT, "few_people": FEW_PEOPLE, "seed": SEED, "before": BEFORE}


def get_config(preset: str = "default") -> UniversalFaceRunConfig:
    """The config of a preset.

    Raises:
      ValueError: there is no such preset; the nearest is named.
    """
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    return PRESETS[preset]


def search_space(config: UniversalFaceRunConfig) -> Space:
    """What `scripts/tune.py` varies: numbers, so that one compiled program serves all trials."""
    rate = config.optim.learning_rate
    return Space(
        {
            "optim.learning_rate": Float(rate / 10, rate * 10, log=True),
            "optim.weight_decay": Float(1e-6, 1e-2, log=True),
            "model.dropout": Float(0.0, 0.4),
            "loss.lambda_id": Float(0.5, 5.0),
            "loss.lambda_contrast": Float(0.01, 1.0, log=True),
            "loss.lambda_reconstruction": Float(0.05, 2.0, log=True),
            "loss.temperature": Float(0.05, 0.5, log=True),
        }
    )
