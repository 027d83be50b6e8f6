"""A config for an amount of data and a size of CLIP, by the source document's tables."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from jaxrecipes.errors import unknown_name
from jaxrecipes.recipes.clip_iqa.config import SIZES

Focus = Literal["balanced", "quality", "consistency"]

# Layers to freeze, from and to; of 12 and of 24.
_LAYERS = {
    "vit_b_32": (8, 10),
    "vit_b_16": (8, 10),
    "vit_l_14": (18, 20),
    "vit_l_14_336": (20, 22),
}
_LOSS_WEIGHTS: Mapping[Focus, tuple[float, float]] = {
    "balanced": (0.5, 0.5),
    "quality": (0.7, 0.3),
    "consistency": (0.3, 0.7),
}
# Fewer than so many examples -> how far a correction may go; and what the presets have.
_SCALES = ((500, 0.1), (3_000, 0.2), (10_000, 0.3), (float("inf"), 0.4))
_PRESET_SCALES = {"scenario_small": 0.1, "scenario_medium": 0.2, "scenario_large": 0.3}


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """What to train with.

    Attributes:
      preset: of `configs/clip_iqa.py`.
      fields: what differs from the preset, by the names of the config's fields.
      reasons: a line for each choice.
    """

    preset: str
    fields: dict[str, Any]
    reasons: tuple[str, ...]

    def command(self, *, weights: str, path: str) -> str:
        """The command that trains so, with these weights and this CSV."""
        fields = self.fields | {"clip.weights": weights, "data.path": path}
        flags = (f"--{name} {value}" for name, value in fields.items())
        return " ".join([f"jaxrecipes train --config clip_iqa:{self.preset}", *flags])


def suggest(samples: int, size: str, *, focus: Focus = "balanced") -> Suggestion:
    """The preset for `samples` rated images, fitted to a published size of CLIP.

    Args:
      samples: rated images, those held out included.
      size: of CLIP, a name of `config.SIZES`.
      focus: the score that matters more.

    Raises:
      ValueError: no samples, an unknown size or focus (names the nearest).
    """
    if samples < 1:
        raise ValueError(f"--samples is {samples}; expected 1 or more")
    if size not in SIZES:
        raise unknown_name("size of CLIP", size, SIZES)
    if focus not in _LOSS_WEIGHTS:
        raise unknown_name("focus", focus, _LOSS_WEIGHTS)
    fields: dict[str, Any] = {"clip.size": size} if size != "vit_l_14" else {}
    name, (low, high) = SIZES[size], _LAYERS[size]
    if samples < 1_000:
        preset = "scenario_small"
        fields["optim.warmup_ratio"] = 0.01
        reasons = [
            "freezing: below 1000 images CLIP stays as it is and the heads alone learn",
            "learning rate 1e-3: heads alone bear 1e-3 to 5e-3; they hardly need a warm-up",
        ]
    elif samples <= 5_000:
        preset = "scenario_medium"
        if low != 18:
            fields["freeze.layers"] = low
        reasons = [
            f"freezing: of {name}'s layers the first {low} for 1000 to 5000 images; {low} to {high}"
            " is the range for this size, more if the validation loss rises",
            "learning rate 3e-5: partly frozen towers bear 3e-5 to 1e-4",
        ]
    else:
        preset = "scenario_large"
        reasons = [
            "freezing: above 5000 images all of CLIP is fine-tuned",
            "learning rate 3e-5: the whole of CLIP bears 1e-5 to 3e-5",
        ]
    scale = next(scale for below, scale in _SCALES if samples < below)
    line = f"residual scales {scale}: for {samples} images"
    if scale != _PRESET_SCALES[preset]:
        fields |= {"heads.residual_scale_q": scale, "heads.residual_scale_c": scale}
        line += f" by the table of scales; the coarser scenario says {_PRESET_SCALES[preset]}"
    reasons.append(line)
    w_q, w_c = _LOSS_WEIGHTS[focus]
    if focus != "balanced":
        fields |= {"loss.w_q": w_q, "loss.w_c": w_c}
    reasons.append(f"loss weights {w_q} (quality) and {w_c} (consistency): {focus}")
    return Suggestion(preset, fields, tuple(reasons))
