"""The heads of clip_iqa: scores of an image and of how well it fits its prompt.

Image and text are unit vectors `[B, d]`; `fused` is both and their cosine, `[B, 2d + 1]`. Heads are
small and always float32. They start as PyTorch's layers do.
"""

from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp

from jaxrecipes.losses.similarity import unit
from jaxrecipes.nn import Dropout, LayerNorm, Rate, gelu
from jaxrecipes.nn.initializers import uniform_fan_in
from jaxrecipes.recipes.clip_iqa.network_config import HeadsConfig
from jaxrecipes.recipes.clip_iqa.refinement import Refinement, dense

_SECOND_HIDDEN_DIM_C = 64


def clamp(x: jax.Array) -> jax.Array:
    """`x` within [0, 1]; the gradient is 1 at both ends as well, as PyTorch's."""
    return jnp.where(x < 0, 0.0, jnp.where(x > 1, 1.0, x))


class Score(nn.Module):
    """A perceptron with one output: `dense -> gelu -> dropout` and any `dense -> gelu` before it.

    Attributes:
      hidden: widths of the hidden layers.
      norm: normalise the input.
    """

    hidden: tuple[int, ...]
    norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, dropout_rate: Rate = 0.0) -> jax.Array:
        """`[B, C] -> [B]`; dropout acts after the first hidden layer."""
        if self.norm:
            x = LayerNorm(name="norm")(x)
        for i, width in enumerate(self.hidden, start=1):
            x = gelu(dense(x, width, f"dense{i}"))
            if i == 1:
                x = Dropout()(x, dropout_rate, train=train)
        return dense(x, 1, f"dense{len(self.hidden) + 1}")[:, 0]


class Rationale(nn.Module):
    """Where the text of an explanation should lie: a unit vector."""

    @nn.compact
    def __call__(self, fused: jax.Array) -> jax.Array:
        """`[B, 2d + 1] -> [B, d]`."""
        x = LayerNorm(name="norm")(fused)
        return unit(dense(x, (fused.shape[-1] - 1) // 2, "dense"))


def residual_scores(
    module: nn.Module,
    config: HeadsConfig,
    image: jax.Array,
    fused: jax.Array,
    *,
    train: bool,
    dropout_rate: Rate,
    residual_scale_q: Rate,
    residual_scale_c: Rate,
) -> dict[str, jax.Array]:
    """Scores made of a simple estimate and a correction within +-scale.

    Args:
      module: the network, whose parameters these are; to be called in its compact method.
      config: the heads.
      image: `[B, d]`.
      fused: `[B, 2d + 1]`.
      train: whether dropout acts.
      dropout_rate: of the corrections.
      residual_scale_q: bound of the correction of the quality.
      residual_scale_c: bound of the correction of the consistency.

    Returns:
      `quality`, `consistency` and `consistency_base`, `[B]` each, in [0, 1].
    """
    scale = module.param("c_base_scale", nn.initializers.ones_init(), (), jnp.float32)
    bias = module.param("c_base_bias", nn.initializers.zeros_init(), (), jnp.float32)
    rates: dict[str, Any] = {"train": train, "dropout_rate": dropout_rate}
    quality = nn.sigmoid(dense(image, 1, "q_base_head")[:, 0])
    quality_delta = jnp.tanh(Score((config.hidden_dim_q,), name="q_delta_head")(image, **rates))
    base = clamp(scale * (fused[:, -1] + 1.0) / 2.0 + bias)
    hidden = (config.hidden_dim_c, _SECOND_HIDDEN_DIM_C)
    delta = jnp.tanh(Score(hidden, norm=True, name="c_delta_head")(fused, **rates))
    return {
        "quality": clamp(quality + residual_scale_q * quality_delta),
        "consistency": clamp(base + residual_scale_c * delta),
        "consistency_base": base,
    }


def traditional_scores(
    module: nn.Module,
    config: HeadsConfig,
    image: jax.Array,
    fused: jax.Array,
    *,
    widths: tuple[int, int],
    train: bool,
    dropout_rate: Rate,
) -> dict[str, jax.Array]:
    """Scores of a perceptron, by choice averaged with the cosine's, by choice refined.

    The original also compares tokens with patches and throws the result away: the parameters of
    that (`filip_*`, `seq_proj_*`) are kept for loading and saving, and nothing is computed.

    Args:
      module: as in `residual_scores`.
      config: the heads.
      image: `[B, d]`.
      fused: `[B, 2d + 1]`.
      widths: of the vision and of the text tower.
      train: whether dropout acts.
      dropout_rate: of the refinement.

    Returns:
      As `residual_scores`.
    """
    joint = image.shape[-1]
    starts = {"c_scale": 5.0, "c_bias": 0.0, "filip_scale": 5.0, "filip_bias": 0.0}
    scalars = {
        n: module.param(n, nn.initializers.constant(x), (), jnp.float32) for n, x in starts.items()
    }
    for name, width in zip(("seq_proj_img", "seq_proj_txt"), widths, strict=True):
        if width != joint:
            module.param(f"{name}_kernel", uniform_fan_in(width), (width, joint), jnp.float32)
    quality = nn.sigmoid(dense(image, 1, "q_head")[:, 0])
    base = nn.sigmoid(Score((config.hidden_dim_c,), norm=True, name="c_head")(fused, train=train))
    if config.two_branch:
        cosine = nn.sigmoid(scalars["c_scale"] * fused[:, -1] + scalars["c_bias"])
        base = (cosine + base) / 2.0
    consistency = base
    if config.refinement:
        refinement = Refinement(
            config.refinement_layers,
            config.refinement_heads,
            config.refinement_dim,
            name="refinement_module",
        )
        x = jnp.concatenate([fused[:, :-1], base[:, None]], axis=-1)
        consistency = clamp(base + refinement(x, train=train, dropout_rate=dropout_rate))
    return {"quality": quality, "consistency": consistency, "consistency_base": base}
