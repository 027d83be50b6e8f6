"""The decoder of hand_pose: one token looks at the features, and heads read the hand off it."""

import jax
from flax import linen as nn
from jax import numpy as jnp
from jax.typing import DTypeLike

from jaxrecipes.models.hand.joints import SHAPE_SIZE
from jaxrecipes.nn import Linear, Rate
from jaxrecipes.nn.initializers import uniform_fan_in
from jaxrecipes.recipes.hand_pose.network_config import HandPoseConfig
from jaxrecipes.recipes.hand_pose.token_decoder import TokenDecoder

AXES = ("x", "y", "z")


def bin_centres(config: HandPoseConfig) -> list[jax.Array]:
    """Centres of the bins of the root's position along x, y and z, in the units of `trans`."""
    return [
        jnp.linspace(first, last, count, dtype=jnp.float32)
        for (first, last), count in zip(
            config.ranges, config.handec.heatmap_resolution, strict=True
        )
    ]


class HandDecoder(nn.Module):
    """A constant query, a `TokenDecoder` whose context are the features, and heads.

    The constants `init_hand_pose`, `init_betas` and `init_cam`, and with `denorm_output`
    `scale_tril` and `output_mean`, are parameters that nothing trains (`hand_pose.constants`).

    Attributes:
      config: of the network.
      dtype: of the decoder's computation; parameters and heads stay float32.
    """

    config: HandPoseConfig
    dtype: DTypeLike = jnp.float32

    def setup(self):
        config, normal = self.config, nn.initializers.normal(1.0)
        self.init_hand_pose = self.param("init_hand_pose", normal, (config.pose_size,), jnp.float32)
        self.init_betas = self.param("init_betas", normal, (SHAPE_SIZE,), jnp.float32)
        self.init_cam = self.param("init_cam", normal, (3,), jnp.float32)
        handec = config.handec
        self.transformer = TokenDecoder(
            handec.num_layer,
            config.width,
            handec.num_head,
            handec.dim_head,
            handec.dim_mlp,
            self.dtype,
        )
        init = uniform_fan_in(config.width)
        self.decpose = Linear(config.pose_size, kernel_init=init, bias_init=init)
        self.decshape = Linear(SHAPE_SIZE, kernel_init=init, bias_init=init)
        self.decx, self.decy, self.decz = (
            Linear(count, use_bias=False, kernel_init=init) for count in handec.heatmap_resolution
        )
        if handec.denorm_output is not None:
            size = config.output_size
            self.scale_tril = self.param("scale_tril", lambda _: jnp.eye(size, dtype=jnp.float32))
            self.output_mean = self.param(
                "output_mean", nn.initializers.zeros_init(), (size,), jnp.float32
            )

    def token(
        self, context: jax.Array, *, train: bool, dropout_rate: Rate, output_dropout_rate: Rate
    ) -> jax.Array:
        """What the query has gathered from features `[B, N, C]`: `[B, D]`; rates as in
        `TokenDecoder`.
        """
        query = jnp.concatenate([self.init_hand_pose, self.init_betas, self.init_cam])
        query = jnp.broadcast_to(query, (context.shape[0], 1, query.size))
        token = self.transformer(
            query,
            context,
            train=train,
            dropout_rate=dropout_rate,
            output_dropout_rate=output_dropout_rate,
        )
        return token[:, 0]

    def heads(self, token: jax.Array) -> dict[str, jax.Array]:
        """The hand of tokens `[B, D]`, float32.

        Returns:
          `pose` `[B, 16 * width of a rotation]`, `betas` `[B, 10]`, `trans` `[B, 3]` (the root, the
          expectation under the bins' probabilities), and those probabilities' logarithms
          `log_heatmap_x`, `log_heatmap_y` and `log_heatmap_z`.
        """
        token = token.astype(jnp.float32)
        layers = (self.decx, self.decy, self.decz)
        logits = [layer(token) for layer in layers]
        trans = jnp.stack(
            [
                jax.nn.softmax(a) @ centres
                for a, centres in zip(logits, bin_centres(self.config), strict=True)
            ],
            axis=-1,
        )
        pose, betas = self.decpose(token), self.decshape(token)
        if self.config.handec.denorm_output is not None:
            joined = jnp.concatenate([pose, betas, trans], axis=-1)
            joined = joined @ self.scale_tril + self.output_mean
            pose, betas, trans = jnp.split(
                joined, [pose.shape[-1], pose.shape[-1] + betas.shape[-1]], axis=-1
            )
        maps = {
            f"log_heatmap_{axis}": jax.nn.log_softmax(a)
            for axis, a in zip(AXES, logits, strict=True)
        }
        return {"pose": pose, "betas": betas, "trans": trans, **maps}

    def __call__(
        self,
        context: jax.Array,
        *,
        train: bool,
        dropout_rate: Rate = 0.0,
        output_dropout_rate: Rate = 0.0,
    ) -> dict[str, jax.Array]:
        """The hand of features `[B, N, C]`: `heads` of `token`."""
        token = self.token(
            context,
            train=train,
            dropout_rate=dropout_rate,
            output_dropout_rate=output_dropout_rate,
        )
        return self.heads(token)
