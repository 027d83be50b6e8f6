"""clip_iqa presets: `configs/clip_iqa.py` (the default), `configs/clip_iqa.py:recommended`,
`configs/clip_iqa.py:scenario_small` ...

All but the default and `image_embeddings` start from weights of CLIP ViT-L/14 and read rated
images from a CSV; bring them with --clip.weights, --data.path and --data.image_folder.
`suggest` picks one.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from jaxrecipes.errors import named
from jaxrecipes.recipes.clip_iqa.config import (
    SMALL,
    AugmentConfig,
    ClipSource,
    FreezeConfig,
    IqaDataConfig,
    IqaRunConfig,
    LossConfig,
)
from jaxrecipes.recipes.clip_iqa.network_config import HeadsConfig
from jaxrecipes.train.config import EarlyStoppingConfig, EmaConfig

if TYPE_CHECKING:
    from jaxrecipes.report.sections import Section
    from jaxrecipes.tune.space import Int, Space

_OPTIM = IqaRunConfig().optim

# A small CLIP from scratch on synthetic scenes: takes less than three minutes on two cores.
DEFAULT = IqaRunConfig(
    epochs=12,
    optim=replace(_OPTIM, learning_rate=1e-3, learning_rate_factors={"^(?!clip/)": 5.0}),
    early_stopping=EarlyStoppingConfig(),
    clip=ClipSource(size="custom"),
    heads=HeadsConfig(residual_scale_q=0.4, residual_scale_c=0.4),
    augment=AugmentConfig(enabled=False),
)

# Heads and a small text tower on what another network says of the images; examples/embed_images.py
# makes the parquet. About a thousand images: much dropout and decay, few epochs.
IMAGE_EMBEDDINGS = IqaRunConfig(
    epochs=15,
    select_metric="srocc_mean",
    data=IqaDataConfig(path="embedded.parquet", image_embeddings=True),
    optim=replace(
        _OPTIM,
        learning_rate=1e-4,
        weight_decay=1.0,
        learning_rate_factors={"^(?!clip/)": 5.0},
    ),
    ema=EmaConfig(decay=0.98),
    early_stopping=EarlyStoppingConfig(),
    clip=ClipSource(size="custom", custom=replace(SMALL, projection_dim=1568)),
    heads=HeadsConfig(residual_scale_q=0.4, residual_scale_c=0.4, dropout=0.5),
)


def _preset(
    *,
    freeze: FreezeConfig,
    scale_q: float = 0.2,
    scale_c: float = 0.2,
    epochs: int = 20,
    batch_size: int = 32,
    learning_rate: float = 3e-5,
    w_q: float = 0.5,
    w_c: float = 0.5,
) -> IqaRunConfig:
    """A configuration of the source document; what it leaves out has its defaults."""
    return IqaRunConfig(
        epochs=epochs,
        data=IqaDataConfig(path="AGIQA-3K/data.csv", batch_size=batch_size),
        optim=replace(_OPTIM, learning_rate=learning_rate),
        clip=ClipSource(size="vit_l_14", weights="clip-vit-large-patch14"),
        heads=HeadsConfig(residual_scale_q=scale_q, residual_scale_c=scale_c),
        freeze=freeze,
        loss=LossConfig(w_q=w_q, w_c=w_c),
    )


_FROZEN = FreezeConfig(mode="clip")
_PARTIAL_18 = FreezeConfig(mode="partial", layers=18)
_PARTIAL_20 = FreezeConfig(mode="partial", layers=20)

RECOMMENDED = _preset(freeze=_PARTIAL_18)

PRESETS = {
    "default": DEFAULT,
    "image_embeddings": IMAGE_EMBEDDINGS,
    "recommended": RECOMMENDED,
    # By the amount of data: below 1000 rated images, up to 5000, above.
    "scenario_small": _preset(
        freeze=_FROZEN, scale_q=0.1, scale_c=0.1, epochs=30, batch_size=16, learning_rate=1e-3
    ),
    "scenario_medium": RECOMMENDED,
    "scenario_large": _preset(
        freeze=FreezeConfig(), scale_q=0.3, scale_c=0.3, epochs=15, batch_size=64
    ),
    "a": _preset(freeze=_FROZEN, epochs=10, batch_size=64, learning_rate=1e-3),
    "b": RECOMMENDED,
    "c": _preset(
        freeze=_PARTIAL_20,
        scale_q=0.25,
        scale_c=0.25,
        epochs=50,
        batch_size=16,
        learning_rate=2e-5,
        w_q=0.4,
        w_c=0.6,
    ),
    "d": _preset(freeze=_PARTIAL_18, scale_q=0.3, scale_c=0.15, w_q=0.7, w_c=0.3),
    "e": _preset(freeze=_PARTIAL_18, scale_q=0.15, scale_c=0.3, w_q=0.3, w_c=0.7),
    # The heads first, then the last layers of both towers from there.
    "two_stage": replace(
        _preset(freeze=_PARTIAL_20, learning_rate=1e-5),
        first_stage={"freeze.mode": "clip", "epochs": "10", "optim.learning_rate": "1e-3"},
    ),
    # Fewer layers are frozen as the run goes on; one optimizer and one schedule throughout.
    "progressive": replace(
        RECOMMENDED,
        epochs=30,
        freeze=FreezeConfig(mode="partial", layers=22, plan={1: 22, 11: 20, 21: 18}),
    ),
}


def get_config(preset: str = "default") -> IqaRunConfig:
    """The config of a preset.

    Raises:
      ValueError: there is no such preset; the nearest is named.
    """
    return named("preset", preset, PRESETS)


def known_sensitivities(config: IqaRunConfig) -> "Section":
    """What the source document says from experience, for the full-size network on real data."""
    from jaxrecipes.report.sections import Section, Table

    del config  # it is said of the program, whatever its settings
    return Section(
        title="What the source document says",
        note="From its authors' experience with ViT-L/14 on their own data, not measured here.",
        table=Table(
            head=["hyperparameter", "in our config", "sensitivity", "effect on SROCC", "tune"],
            rows=[
                ["lr", "optim.learning_rate", "very high", "±0.05", "first"],
                ["freeze_layers", "freeze.layers", "high", "±0.03", "first"],
                ["residual_scale_c", "heads.residual_scale_c", "high", "±0.02", "next"],
                ["w_q / w_c", "loss.w_q, loss.w_c", "medium", "±0.01", "next"],
                ["residual_scale_q", "heads.residual_scale_q", "medium", "±0.01", "last"],
                ["batch_size", "data.batch_size", "low", "±0.005", "last"],
                ["epochs", "epochs", "low", None, "enough is enough"],
            ],
        ),
    )


def search_space(config: IqaRunConfig) -> "Space":
    """What `tune` varies: the source document's ranges for weights that are fine-tuned.

    The number of frozen layers is searched where some are, in the part of the towers' depth that
    the source document gives for 24 layers (16 to 22); each of them is a program of its own.
    """
    from jaxrecipes.tune.space import Float, Space, declared_space

    parameters = {**declared_space(config).parameters, "loss.w_q": Float(0.3, 0.7)}
    del parameters["optim.weight_decay"]
    if config.clip.weights is not None:
        parameters["optim.learning_rate"] = Float(1e-6, 1e-3, log=True)
    if config.freeze.mode == "partial" and not config.freeze.plan:
        parameters["freeze.layers"] = _layers(config.clip.architecture.vision.depth)
    return Space(parameters, {"loss.w_c": lambda trial: 1.0 - trial.loss.w_q})


def _layers(depth: int) -> "Int":
    """16 to 22 by 2 of 24 layers, 8 to 10 by 1 of 12."""
    from jaxrecipes.tune.space import Int

    step = max(1, depth // 12)
    low = depth * 2 // 3
    high = max(low + step, depth - 2)
    return Int(low, high - (high - low) % step, step=step)
