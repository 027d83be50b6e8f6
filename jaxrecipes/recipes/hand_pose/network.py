"""The hand_pose network: from crops of a right hand to MANO's pose and shape and the wrist
position.

Source: a DINOv2 backbone with camera information and a transformer decoder with one token, as in
HaMeR (Pavlakos et al., CVPR 2024). Weights are read and written by
`jaxrecipes.recipes.hand_pose.original`.
"""

from collections.abc import Mapping
from typing import Any

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.models.dinov2.network import Dinov2, without_registers
from jaxrecipes.nn import Rate
from jaxrecipes.recipes.faces.feature_infusion import FeatureInfusion
from jaxrecipes.recipes.hand_pose.constants import decoder_constants
from jaxrecipes.recipes.hand_pose.decoder import HandDecoder
from jaxrecipes.recipes.hand_pose.network_config import HandPoseConfig
from jaxrecipes.recipes.hand_pose.perspective_embedding import PerspectiveEmbedding
from jaxrecipes.recipes.hand_pose.temporal_refiner import TemporalRefiner

CONSTANTS = ("^handec/init_", "^handec/scale_tril$", "^handec/output_mean$", "/mask_token$")
"""Regular expressions over the paths of parameters that nothing trains; see also `constants`."""


def constants(config: HandPoseConfig) -> tuple[str, ...]:
    """The entries of `CONSTANTS` that a configuration's network has."""
    if config.handec.denorm_output is not None:
        return CONSTANTS
    return CONSTANTS[:1] + CONSTANTS[3:]


class HandBackbone(nn.Module):
    """DINOv2, optionally with a fusion of some of its hidden states.

    Attributes:
      config: of the network.
      dtype: of the computation; parameters stay float32.
    """

    config: HandPoseConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Features `[B, 1 + P^2, C]` of `[B, S, S, 3]`, class token first unless it is dropped.

        `train` says whether the fusion's batch normalisation takes the batch's statistics.
        """
        config = self.config
        dinov2 = Dinov2(config.backbone, self.dtype, name="dinov2")
        registers = config.backbone.num_registers
        if config.infusion_layer is None:
            features = without_registers(dinov2(images), registers)
        else:
            _, states = dinov2.with_hidden_states(images)
            chosen = [without_registers(states[i], registers) for i in config.infusion_layer]
            features = FeatureInfusion(dtype=self.dtype, name="infusion")(chosen, train=train)
        return features[:, 1:] if config.drop_cls else features


class HandPose(nn.Module):
    """The network of both stages; stage 2 if `config.temporal` is set.

    Parameters are under `backbone`, `persp_info_embedder`, `handec` and `temporal_refiner`.

    Attributes:
      config: the architecture.
      dtype: of the computation; parameters, the cameras' geometry and the heads stay float32.
    """

    config: HandPoseConfig
    dtype: DTypeLike = jnp.float32

    def setup(self):
        config, dtype = self.config, self.dtype
        self.backbone = HandBackbone(config, dtype)
        if config.persp_info_embed.type != "none":
            self.persp_info_embedder = PerspectiveEmbedding(config.persp_info_embed, dtype)
        self.handec = HandDecoder(config, dtype)
        if config.temporal is not None:
            self.temporal_refiner = TemporalRefiner(config.temporal, dtype)

    def __call__(
        self,
        inputs: Mapping[str, jax.Array],
        *,
        train: bool,
        dropout_rate: Rate = 0.0,
        output_dropout_rate: Rate = 0.0,
        train_backbone: bool = True,
    ) -> dict[str, jax.Array]:
        """The hands of clips of T frames.

        Args:
          inputs: `patch` `[B, T, S, S, 3]`, normalised with `config.img_mean` and `img_std`;
            `patch_bbox` `[B, T, 4]`, `focal` and `princpt` `[B, T, 2]`, pixels of one image; for
            stage 2 also `timestamp` `[B, T]` ms.
          train: whether dropout acts. In stage 2 it acts in the refiner alone.
          dropout_rate: of the decoder's attention probabilities and feed-forward parts, and of all
            of the refiner's dropouts.
          output_dropout_rate: of the outputs of the decoder's attention layers.
          train_backbone: False makes a frozen backbone behave as in evaluation.

        Returns:
          float32: `pose` `[B, T, 16 * width of a rotation]`, `betas` `[B, T, 10]`, `trans`
          `[B, T, 3]` (in units of the hand's scale with `norm_by_hand`, else mm), and
          `log_heatmap_x`, `log_heatmap_y`, `log_heatmap_z` `[B, T, bins]`.

        Raises:
          ValueError: patches of another shape.
        """
        patch, config = inputs["patch"], self.config
        size = config.img_size
        if patch.ndim != 5 or patch.shape[2:] != (size, size, 3):
            raise ValueError(f"expected patches [B, T, {size}, {size}, 3], got {patch.shape}")
        clips, frames = patch.shape[:2]
        first_stage = train and config.temporal is None
        features = self.features(inputs, train=first_stage, train_backbone=train_backbone)
        token = self.handec.token(
            features,
            train=first_stage,
            dropout_rate=dropout_rate,
            output_dropout_rate=output_dropout_rate,
        )
        if config.temporal is not None:
            tokens = self.temporal_refiner(
                token.reshape(clips, frames, -1),
                inputs["timestamp"],
                train=train,
                dropout_rate=dropout_rate,
            )
            token = tokens.reshape(clips * frames, -1)
        outputs = self.handec.heads(token)
        return {name: a.reshape(clips, frames, -1) for name, a in outputs.items()}

    def features(
        self, inputs: Mapping[str, jax.Array], *, train: bool, train_backbone: bool = True
    ) -> jax.Array:
        """The context of the decoder, `[B * T, 1 + P^2, C]`; arguments as in the call."""
        patch, bbox, focal, princpt = (
            inputs[name].reshape(-1, *inputs[name].shape[2:])
            for name in ("patch", "patch_bbox", "focal", "princpt")
        )
        features = self.backbone(patch, train=train and train_backbone)
        if self.config.persp_info_embed.type == "none":
            return features
        return self.persp_info_embedder(features, bbox, focal, princpt, train=train)

    def init_params(
        self, key: jax.Array, *, read_files: bool = True
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """(params, batch_stats) drawn from `key`.

        Args:
          key: PRNG key.
          read_files: take the decoder's constants from the configured files; otherwise they have
            the values of a config without files, for callers that set them afterwards.

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: a file that does not hold what it should.
        """
        read = decoder_constants(self.config) if read_files else {}
        zeros = {n: jnp.zeros(s.shape, s.dtype) for n, s in hand_inputs(self.config).items()}
        variables = self.init(key, zeros, train=False)
        params = variables["params"]
        params = {**params, "handec": {**params["handec"], **read}}
        return params, variables.get("batch_stats", {})


def hand_inputs(config: HandPoseConfig, *, batch_size: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of the network's inputs."""
    leading, size = (batch_size, config.num_frame), config.img_size
    shapes = {
        "patch": (size, size, 3),
        "patch_bbox": (4,),
        "focal": (2,),
        "princpt": (2,),
        "timestamp": (),
    }
    return {
        name: jax.ShapeDtypeStruct((*leading, *shape), jnp.float32)
        for name, shape in shapes.items()
    }
