"""OCEC presets: `configs/ocec.py` (the default), `configs/ocec.py:seed`, `configs/ocec.py:balanced`
...
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from jaxrecipes.errors import named
from jaxrecipes.recipes.ocec.config import (
    AugmentConfig,
    EyeDataConfig,
    LossConfig,
    OcecConfig,
    OcecRunConfig,
)
from jaxrecipes.recipes.ocec.network import PUBLISHED
from jaxrecipes.train.config import EmaConfig, LoopConfig, OptimConfig, PlateauConfig

if TYPE_CHECKING:
    from jaxrecipes.tune.space import Space

# A small model on synthetic data: takes less than three minutes on two cores.
DEFAULT = OcecRunConfig(
    epochs=15,
    optim=OptimConfig(
        learning_rate=3e-3,
        schedule="cosine",
        warmup_epochs=1,
        min_learning_rate=1e-5,
        weight_decay=1e-2,
    ),
    ema=EmaConfig(decay=0.99),
    model=OcecConfig(base_channels=16, num_blocks=4, dropout=0.2),
    data=EyeDataConfig(image_size=(24, 40), batch_size=64),
)

# The "current" configuration of the source document (its tables 1.1 to 1.6). Batches are global:
# its "effective batch" of two GPUs with 4096 images each is --data.batch_size 8192, or
# --optim.accumulation_steps 2 on one.
SEED = OcecRunConfig(
    epochs=1000,
    optim=OptimConfig(learning_rate=1e-4, weight_decay=1e-4),
    plateau=PlateauConfig(factor=0.5, patience_epochs=2),
    ema=EmaConfig(decay=0.999, warmup=False, average_batch_stats=False),
    model=OcecConfig(
        base_channels=64, num_blocks=8, dropout=0.3, token_mixer_grid=(2, 3), token_mixer_layers=2
    ),
    data=EyeDataConfig(image_size=(32, 64), batch_size=4096, eval_batch_size=4096),
    augment=AugmentConfig(flip_prob=0.5, distort_prob=0.5, clahe_prob=0.01),
)


def _proposal(
    *,
    learning_rate: float,
    weight_decay: float,
    patience_epochs: int,
    warmup_epochs: int,
    dropout: float,
    loss: Literal["bce", "focal"],
) -> OcecRunConfig:
    """One of the three proposals of the source document's section 6; everything else is as in
    SEED.
    """
    return replace(
        SEED,
        optim=replace(
            SEED.optim,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            warmup_epochs=warmup_epochs,
        ),
        plateau=replace(SEED.plateau, factor=0.7, patience_epochs=patience_epochs),
        model=replace(SEED.model, dropout=dropout),
        loss=LossConfig(kind=loss, label_smoothing=0.05, focal_gamma=2.0),
    )


CONSERVATIVE = _proposal(
    learning_rate=2e-4,
    weight_decay=5e-4,
    patience_epochs=5,
    warmup_epochs=0,
    dropout=0.25,
    loss="bce",
)
AGGRESSIVE = replace(
    _proposal(
        learning_rate=3e-4,
        weight_decay=1e-3,
        patience_epochs=10,
        warmup_epochs=5,
        dropout=0.2,
        loss="focal",
    ),
    data=replace(SEED.data, batch_size=2048),
)
BALANCED = _proposal(
    learning_rate=2e-4,
    weight_decay=5e-4,
    patience_epochs=5,
    warmup_epochs=0,
    dropout=0.25,
    loss="focal",
)

# The real 24x24 eyes of the CEW dataset, which the user supplies with --data.path.
CEW = replace(
    DEFAULT,
    epochs=30,
    model=OcecConfig(base_channels=32, num_blocks=4, dropout=0.3),
    data=EyeDataConfig(image_size=(24, 24), batch_size=64),
    augment=AugmentConfig(
        flip_prob=0.5, distort_prob=0.5, clahe_prob=0.01, crop_prob=1.0, crop_padding=2
    ),
)

# How the author trained the models that he published.
_PUBLISHED_RUN = OcecRunConfig(
    epochs=50,
    optim=OptimConfig(learning_rate=1e-4, weight_decay=1e-4),
    ema=EmaConfig(enabled=False),
    data=EyeDataConfig(image_size=(24, 40), batch_size=256),
    loop=LoopConfig(keep_latest=3),
)

PRESETS = {
    "default": DEFAULT,
    "seed": SEED,
    "conservative": CONSERVATIVE,
    "aggressive": AGGRESSIVE,
    "balanced": BALANCED,
    "cew": CEW,
    **{name: replace(_PUBLISHED_RUN, model=model) for name, model in PUBLISHED.items()},
}


def get_config(preset: str = "default") -> OcecRunConfig:
    """The config of a preset.

    Raises:
      ValueError: there is no such preset; the nearest is named.
    """
    return named("preset", preset, PRESETS)


def search_space(config: OcecRunConfig) -> "Space":
    """What `tune` varies: only numbers, so that one compiled program serves all trials."""
    from jaxrecipes.tune.space import Float, declared_space

    decay = {"optim.weight_decay": Float(1e-5, 1e-1, log=True)}
    return declared_space(config).with_parameters(decay)
