"""face3d presets: `configs/face3d.py` (the default), `configs/face3d.py:recommended`,
`configs/face3d.py:before` ...
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from jaxrecipes.errors import named
from jaxrecipes.recipes.face3d.config import Face3DRunConfig, LossConfig
from jaxrecipes.recipes.face3d.network_config import Face3DConfig
from jaxrecipes.recipes.faces.data import FaceDataConfig
from jaxrecipes.train.config import EarlyStoppingConfig, OptimConfig, PlateauConfig

if TYPE_CHECKING:
    from jaxrecipes.tune.space import Space

# A small network on synthetic data: takes less than two minutes on two cores.
DEFAULT = Face3DRunConfig(
    epochs=40,
    optim=OptimConfig(
        learning_rate=1e-3,
        schedule="cosine",
        warmup_epochs=2,
        min_learning_rate=1e-6,
        weight_decay=1e-5,
        clip_norm=1.0,
    ),
    model=Face3DConfig(d_model=128, num_layers=2, dim_feedforward=256),
    data=FaceDataConfig(),
)

# The source document's recommended command. Mixed precision is bfloat16 here, which needs no loss
# scale; --precision float16 has the original's.
RECOMMENDED = Face3DRunConfig(precision="bfloat16")

AGGRESSIVE = replace(
    RECOMMENDED,
    optim=replace(RECOMMENDED.optim, learning_rate=2e-5, min_learning_rate=5e-8),
    loss=LossConfig(mse_weight=0.2, cosine_weight=0.8),
    plateau=replace(RECOMMENDED.plateau, factor=0.1, patience_epochs=2),
    early_stopping=replace(RECOMMENDED.early_stopping, patience_epochs=10),
    model=Face3DConfig(use_spatial_attention=True, use_pose_attention=True),
)

CONSERVATIVE = replace(
    RECOMMENDED,
    precision="float32",
    loss=LossConfig(mse_weight=0.4, cosine_weight=0.6),
    plateau=replace(RECOMMENDED.plateau, factor=0.3, patience_epochs=4),
    early_stopping=replace(RECOMMENDED.early_stopping, patience_epochs=20),
)

# The state that the source document's adjustment started from.
BEFORE = replace(
    RECOMMENDED,
    precision="float32",
    optim=replace(RECOMMENDED.optim, learning_rate=1e-4, min_learning_rate=0.0),
    loss=LossConfig(mse_weight=0.5, cosine_weight=0.5),
    plateau=PlateauConfig(factor=0.5, patience_epochs=5),
    early_stopping=EarlyStoppingConfig(),
)

# For a few dozen people or fewer, with embeddings of 512 numbers: new identities keep the network
# from memorising the training faces.
FEW_PEOPLE = replace(
    DEFAULT,
    epochs=60,
    optim=replace(DEFAULT.optim, warmup_epochs=0),
    model=replace(DEFAULT.model, model_type="angle_warping", d_model=512),
    data=FaceDataConfig(reflect_prob=1.0),
)

PRESETS = {
    "default": DEFAULT,
    "few_people": FEW_PEOPLE,
    "recommended": RECOMMENDED,
    "quick_start": RECOMMENDED,  # the same numbers: it leaves out two flags that are defaults
    "aggressive": AGGRESSIVE,
    "conservative": CONSERVATIVE,
    "before": BEFORE,
}


def get_config(preset: str = "default") -> Face3DRunConfig:
    """The config of a preset.

    Raises:
      ValueError: there is no such preset; the nearest is named.
    """
    return named("preset", preset, PRESETS)


def search_space(config: Face3DRunConfig) -> "Space":
    """What `tune` varies: numbers, so that one compiled program serves all trials.

    The weights of a combined loss, which sum to 1, are searched where trials are compared by
    something else than that loss: --select_metric cosine_similarity --select_mode max.
    """
    from jaxrecipes.tune.space import Float, Space, declared_space

    space = declared_space(config)
    if config.loss.kind != "combined" or config.select_metric.startswith("loss"):
        return space
    return Space(
        {**space.parameters, "loss.mse_weight": Float(0.1, 0.9)},
        derived={"loss.cosine_weight": lambda config: 1.0 - config.loss.mse_weight},
    )
