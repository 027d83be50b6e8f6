"""Universal face presets: `configs/universal_face.py` (the default),
`configs/universal_face.py:seed` ...
"""

from dataclasses import replace

from jaxrecipes.errors import named
from jaxrecipes.recipes.faces.data import FaceDataConfig
from jaxrecipes.recipes.universal_face.config import LossConfig, UniversalFaceRunConfig
from jaxrecipes.recipes.universal_face.network import UniversalFaceConfig
from jaxrecipes.train.config import OptimConfig

# A small model on synthetic data: takes less than two minutes on two cores.
DEFAULT = UniversalFaceRunConfig(
    epochs=20,
    optim=OptimConfig(
        learning_rate=1e-3,
        schedule="cosine",
        min_learning_rate=1e-5,
        weight_decay=1e-5,
        clip_norm=1.0,
    ),
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
    optim=replace(SEED.optim, schedule="every(step_decay(rate, step_size=20, gamma=0.5), epoch)"),
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
    return named("preset", preset, PRESETS)
