"""The clip_iqa network: the quality of a generated image, and how well it fits its prompt."""

from collections.abc import Mapping
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.losses.similarity import unit
from jaxrecipes.models.clip.network import Clip
from jaxrecipes.nn import Rate
from jaxrecipes.recipes.clip_iqa.heads import Rationale, residual_scores, traditional_scores
from jaxrecipes.recipes.clip_iqa.network_config import ClipIqaConfig


class ClipIqa(nn.Module):
    """CLIP with two heads, and a third that learns to predict the embedding of an explanation.

    Attributes:
      config: the architecture.
      dtype: of CLIP's computation; parameters, embeddings and heads stay float32.
    """

    config: ClipIqaConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        inputs: Mapping[str, jax.Array],
        *,
        train: bool,
        dropout_rate: Rate = 0.0,
        residual_scale_q: Rate = 0.2,
        residual_scale_c: Rate = 0.2,
        refinement_dropout_rate: Rate = 0.0,
    ) -> dict[str, jax.Array]:
        """Scores of images.

        Args:
          inputs: `image` `[B, S, S, 3]`, normalised as CLIP's; `tokens` `[B, T]` of the prompts;
            and, to learn from, `explanation_tokens` `[B, E]`. The outputs of a frozen tower can be
            given instead: `image_embedding` and `text_embedding` `[B, d]`, unit vectors; or
            `text_pooled` `[B, width]`, the end token normalised but neither scaled nor shifted, for
            a text tower of which only the final norm and the projection are trained.
          train: whether dropout acts.
          dropout_rate: of the residual heads.
          residual_scale_q: how far residual heads correct their estimate of the quality.
          residual_scale_c: how far they correct that of the consistency.
          refinement_dropout_rate: of the refinement.

        Returns:
          float32: `quality`, `consistency` and `consistency_base` (before its correction), `[B]`
          in [0, 1]; with an explanation also `rationale` and `rationale_target`, unit vectors
          `[B, d]`, the target without a gradient.
        """
        config = self.config
        clip = Clip(config.clip, self.dtype, name="clip")
        image = self._image(clip, inputs)
        text = self._text(clip, inputs)
        cosine = jnp.sum(image * text, axis=-1, keepdims=True)
        fused = jnp.concatenate([image, text, cosine], axis=-1)
        if config.heads.mode == "residual":
            outputs = residual_scores(
                self,
                config.heads,
                image,
                fused,
                train=train,
                dropout_rate=dropout_rate,
                residual_scale_q=residual_scale_q,
                residual_scale_c=residual_scale_c,
            )
        else:
            outputs = traditional_scores(
                self,
                config.heads,
                image,
                fused,
                widths=(config.clip.vision.width, config.clip.text.width),
                train=train,
                dropout_rate=refinement_dropout_rate,
            )
        rationale = Rationale(name="rationale_head")
        if self.is_initializing():
            rationale(fused)
        elif "explanation_tokens" in inputs:
            target = unit(clip.text(inputs["explanation_tokens"]).features)
            outputs["rationale"] = rationale(fused)
            outputs["rationale_target"] = jax.lax.stop_gradient(target)
        return outputs

    def _image(self, clip: Clip, inputs: Mapping[str, jax.Array]) -> jax.Array:
        if "image_embedding" in inputs:
            return inputs["image_embedding"]
        return unit(clip.vision(inputs["image"]).features)

    def _text(self, clip: Clip, inputs: Mapping[str, jax.Array]) -> jax.Array:
        if "text_embedding" in inputs:
            return inputs["text_embedding"]
        if "text_pooled" not in inputs:
            return unit(clip.text(inputs["tokens"]).features)
        text = self.variables["params"]["clip"]["text"]
        norm = text["final_norm"]
        pooled = inputs["text_pooled"] * norm["scale"] + norm["bias"]
        return unit(pooled @ text["projection"]["kernel"])

    def init_params(self, key: jax.Array) -> dict[str, Any]:
        """Parameters drawn from `key`; the layers of a refinement start as copies of the first."""
        size = self.config.clip.vision.image_size
        inputs = {
            "image": jnp.zeros((1, size, size, 3), jnp.float32),
            "tokens": jnp.zeros((1, 2), jnp.int32),
        }
        params = dict(self.init(key, inputs, train=False)["params"])
        if self.config.heads.refinement:
            module = params["refinement_module"]
            layers = {name: module["layers_0"] for name in module if name.startswith("layers_")}
            params["refinement_module"] = module | layers
        return params
