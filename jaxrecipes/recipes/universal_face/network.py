"""The universal face network: separates identity from pose in embeddings of faces."""

from typing import Any, Literal

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.losses.similarity import unit
from jaxrecipes.nn import Dropout, LayerNorm, Linear, Rate, run_block
from jaxrecipes.nn.initializers import uniform_fan_in
from jaxrecipes.recipes.universal_face.blocks import PoseBlock
from jaxrecipes.recipes.universal_face.network_config import NUM_TOKENS, UniversalFaceConfig

__all__ = ["NUM_TOKENS", "Mode", "UniversalFace", "UniversalFaceConfig"]

Mode = Literal["train", "inference"]
_POSE_HEAD_WIDTH = 256  # fixed in the original


class IdentityEnhancer(nn.Module):
    """Subtracts a gated linear map of the pose code from the identity code."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, identity: jax.Array, pose_code: jax.Array) -> jax.Array:
        """`[B, I]` and `[B, P]` to `[B, I]`."""
        width = identity.shape[-1]
        gate = Linear(width, dtype=self.dtype, name="gate_hidden")(
            jnp.concatenate([identity, pose_code], axis=-1)
        )
        gate = Linear(width, dtype=self.dtype, name="gate_out")(nn.relu(gate))
        seen = Linear(width, use_bias=False, dtype=self.dtype, name="pose_proj")(pose_code)
        # Half of the way from the code to the code less 0.3 of what the pose explains.
        return identity - 0.15 * nn.sigmoid(gate) * seen


class PoseHead(nn.Module):
    """Angles in degrees from a pose code."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, pose_code: jax.Array, *, train: bool, dropout_rate: Rate) -> jax.Array:
        """`[B, P]` to `[B, 3]` float32."""
        y = nn.relu(Linear(_POSE_HEAD_WIDTH, dtype=self.dtype, name="hidden")(pose_code))
        y = Dropout()(y, dropout_rate, train=train)
        return Linear(3, name="out")(y)


class LossProjections(nn.Module):
    """Linear maps between identity codes and embeddings; in the original they belong to the loss.

    `id_to_feat` maps codes to the space of the embeddings they are compared with. `feat_to_id` is
    never used, and exists only for conversion.
    """

    feat_dim: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, identity: jax.Array) -> jax.Array:
        """`[B, I]` to `[B, D]` float32."""
        width = identity.shape[-1]
        to_feat = Linear(
            self.feat_dim,
            use_bias=False,
            kernel_init=uniform_fan_in(width),
            dtype=self.dtype,
            name="id_to_feat",
        )
        if self.is_initializing():
            init = uniform_fan_in(self.feat_dim)
            unused = Linear(width, use_bias=False, kernel_init=init, name="feat_to_id")
            unused(jnp.zeros((1, self.feat_dim), jnp.float32))
        return to_feat(identity).astype(jnp.float32)


class UniversalFace(nn.Module):
    """Embeddings of faces to identity and pose codes, layer for layer as the original.

    `batch_stats` holds the buffer `pose_prototypes`, `[bins, P]` with rows of length 1, and with
    `config.use_clip_pose_encoder` each block's table of phrases (`PoseText`); nothing changes them.

    Attributes:
      config: the architecture.
      dtype: of the computation; parameters and heads stay float32.
    """

    config: UniversalFaceConfig
    dtype: DTypeLike = jnp.float32

    def setup(self):
        config, dtype = self.config, self.dtype
        text_dim = config.pose_text_dim if config.use_clip_pose_encoder else None
        self.pos_encoding = self.param(
            "pos_encoding",
            nn.initializers.normal(1.0),
            (1, NUM_TOKENS, config.feat_dim),
            jnp.float32,
        )
        self.pose_prototypes = self.variable("batch_stats", "pose_prototypes", self._prototypes)
        self.feat_proj = Linear(config.feat_dim, dtype=dtype)
        self.feat_norm = LayerNorm(dtype=dtype)
        self.feat_dropout = Dropout()
        self.id_proj = Linear(config.id_dim, use_bias=False, dtype=dtype)
        self.pose_proj = Linear(config.pose_dim, use_bias=False, dtype=dtype)
        self.token_proj = Linear(config.feat_dim, dtype=dtype)
        self.blocks = [
            PoseBlock(config.transformer_heads, config.transformer_mlp_dim, dtype, text_dim)
            for _ in range(config.transformer_depth)
        ]
        self.norm = LayerNorm(dtype=dtype)
        self.id_enhancer = IdentityEnhancer(dtype)
        self.pose_head = PoseHead(dtype)
        self.loss_projections = LossProjections(config.feat_dim, dtype)

    def _prototypes(self) -> jax.Array:
        shape = self.config.num_pose_bins, self.config.pose_dim
        return unit(jax.random.normal(self.make_rng("params"), shape, jnp.float32))

    def __call__(
        self,
        features: jax.Array,
        pose: jax.Array | None = None,
        *,
        mode: Mode = "train",
        train: bool = False,
        dropout_rate: Rate = 0.0,
        attention_dropout_rate: Rate = 0.0,
        pose_text_dropout_rate: Rate = 0.0,
    ) -> dict[str, jax.Array]:
        """The heads for embeddings `[B, D]`.

        Args:
          features: embeddings of length 1.
          pose: `[B, 3]` degrees; without it the network uses its own estimate.
          mode: "train" gives all heads, and draws the pose code towards the nearest prototype where
            the pose is given. "inference" gives the heads that are useful afterwards, normalised to
            length 1, and never does that.
          train: whether dropout acts. Independent of `mode`.
          dropout_rate: of all dropouts except those below, traced or not. Needs the rng "dropout".
          attention_dropout_rate: of the attention probabilities; 0.1 in the original.
          pose_text_dropout_rate: of the codes of phrases; 0.1 in the original.

        Returns:
          float32 arrays. mode "train": `id_features` `[B, I]`, `pose_features` `[B, P]`,
          `pose_angles` `[B, 3]` (the estimate), `base_features` `[B, D]`, `id_features_raw`,
          `pose_features_raw` (before enhancement and prototypes). mode "inference": `id_features`,
          `pose_angles`, `pose_features`. In both `projected` `[B, D]`: the identity code brought
          back to the space of the embeddings (by the original's loss object).

        Raises:
          ValueError: embeddings of another size, or an unknown mode.
        """
        if mode not in ("train", "inference"):
            raise ValueError(f"mode must be 'train' or 'inference', got {mode!r}")
        if features.shape[-1] != self.config.feat_dim:
            raise ValueError(
                f"expected embeddings of {self.config.feat_dim} numbers (feat_dim), "
                f"got {features.shape[-1]}"
            )
        base = nn.relu(self.feat_norm(self.feat_proj(features)))
        base = self.feat_dropout(base, dropout_rate, train=train)
        angles = pose
        if angles is None:
            angles = self.pose_head(self.pose_proj(base), train=train, dropout_rate=dropout_rate)
        x = self._encode(
            base,
            angles,
            train=train,
            dropout_rate=dropout_rate,
            attention_dropout_rate=attention_dropout_rate,
            pose_text_dropout_rate=pose_text_dropout_rate,
        )
        identity_raw, pose_raw = self.id_proj(x), self.pose_proj(x)
        pose_code = pose_raw
        if mode == "train" and pose is not None:
            pose_code = self._towards_prototype(pose_raw)
        identity = self.id_enhancer(identity_raw, pose_code)
        heads = {
            "id_features": identity,
            "pose_features": pose_code,
            "pose_angles": self.pose_head(pose_code, train=train, dropout_rate=dropout_rate),
            "projected": self.loss_projections(identity),
        }
        if mode == "train":
            heads |= {
                "base_features": x,
                "id_features_raw": identity_raw,
                "pose_features_raw": pose_raw,
            }
        heads = {name: head.astype(jnp.float32) for name, head in heads.items()}
        if mode == "inference":
            heads |= {n: unit(h) for n, h in heads.items() if n != "pose_angles"}
        return heads

    def _encode(self, base: jax.Array, angles: jax.Array, **options: Any) -> jax.Array:
        tokens = self.token_proj(base.reshape(base.shape[0], NUM_TOKENS, -1))
        x = tokens + self.pos_encoding.astype(self.dtype)
        for block in self.blocks:
            x = run_block(block, x, angles, **options)
        return self.norm(x).mean(1)

    def _towards_prototype(self, pose_code: jax.Array) -> jax.Array:
        """Moves a tenth of the way to the prototype with the nearest direction; no gradient flows
        into the prototype.
        """
        prototypes = jnp.asarray(self.pose_prototypes.value)
        likeness = unit(pose_code.astype(jnp.float32)) @ unit(prototypes).T
        nearest = prototypes[likeness.argmax(-1)]  # the first in a tie
        return pose_code + 0.1 * (nearest.astype(pose_code.dtype) - pose_code)
