"""Mixup and CutMix of a whole batch, inside the jitted step.

Both pair each image with its predecessor in the batch (torchvision's rule) and draw one lambda
for the batch. The labels are not mixed: the batch carries both and the weight of the first, so
that any loss can be mixed, which for losses linear in the target is the same.

Sources: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018; Yun et al., "CutMix",
2019; torchvision.transforms.v2.MixUp and CutMix.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class MixOps:
    """Which kinds of mixing are in the program; probabilities and strengths are hyperparameters."""

    mixup: bool = False
    cutmix: bool = False


def mix(
    key: Array, images: Array, labels: Array, hparams: Mapping[str, Array], *, ops: MixOps
) -> tuple[Array, dict[str, Array]]:
    """Mixes the batch by Mixup, by CutMix, or not at all, as decided by one draw.

    Args:
      key: PRNG key.
      images: `[B, H, W, C]` float32.
      labels: `[B]` int32.
      hparams: `mixup_prob`, `mixup_alpha`, `cutmix_prob`, `cutmix_alpha`, those of the kinds in
        `ops`. At most one kind is applied, so the sum of the probabilities is at most 1 (otherwise
        CutMix gets what Mixup leaves).
      ops: what is in the program.

    Returns:
      The images, and the batch fields `label_mixed` `[B]` int32 (the partner's label) and
      `mix_lambda` `[B]` float32 (the weight of the image's own label). If `ops` has no kind, the
      fields are left out and the images are unchanged.

    Raises:
      ValueError: a hyperparameter that `ops` needs is not among `hparams`.
    """
    kinds = [name for name, on in (("mixup", ops.mixup), ("cutmix", ops.cutmix)) if on]
    needed = [f"{kind}_{what}" for kind in kinds for what in ("prob", "alpha")]
    missing = [name for name in needed if name not in hparams]
    if missing:
        raise ValueError(f"mixing needs the hyperparameters {missing}, got {sorted(hparams)}")
    if not kinds:
        return images, {}
    height, width = images.shape[1:3]
    choice_key, lam_key, centre_key = jax.random.split(key, 3)
    alphas = [
        jnp.asarray(hparams.get(f"{kind}_alpha", 1.0), jnp.float32) for kind in ("mixup", "cutmix")
    ]
    mixup_lam, cutmix_lam = _symmetric_beta(lam_key, jnp.stack(alphas))
    choice = jax.random.uniform(choice_key, (), jnp.float32)
    weights = jnp.ones((height, width), jnp.float32)
    label_weight = jnp.ones((), jnp.float32)
    boundary = jnp.zeros((), jnp.float32)
    if ops.mixup:
        boundary = jnp.asarray(hparams["mixup_prob"], jnp.float32)
        weights = jnp.where(choice < boundary, mixup_lam, weights)
        label_weight = jnp.where(choice < boundary, mixup_lam, label_weight)
    if ops.cutmix:
        centre = jax.random.randint(
            centre_key, (2,), 0, jnp.array([height, width], jnp.int32), jnp.int32
        )
        kept, kept_share = cutmix_weights(cutmix_lam, centre, height, width)
        cut = (choice >= boundary) & (choice < boundary + hparams["cutmix_prob"])
        weights = jnp.where(cut, kept, weights)
        label_weight = jnp.where(cut, kept_share, label_weight)
    mixed = mix_images(images, jnp.roll(images, 1, axis=0), weights)
    fields = {
        "label_mixed": jnp.roll(labels, 1, axis=0),
        "mix_lambda": jnp.full(labels.shape, label_weight, jnp.float32),
    }
    return mixed, fields


def _symmetric_beta(key: Array, alphas: Array) -> Array:
    """Draws from Beta(alpha, alpha) for each alpha: the share of one of two gamma variables."""
    # One sampler for all, whereas jax.random.beta would compile two per distribution.
    first, second = jax.random.loggamma(key, alphas, (2, *alphas.shape), jnp.float32)
    return jax.nn.sigmoid(first - second)


def mix_images(images: Array, partners: Array, weights: Array) -> Array:
    """`weights * images + (1 - weights) * partners`, weights `[H, W]` or scalar, in [0, 1]."""
    if weights.ndim:
        weights = weights[None, :, :, None]
    return weights * images + (1.0 - weights) * partners


def cutmix_weights(lam: Array, centre: Array, height: int, width: int) -> tuple[Array, Array]:
    """The pixels that an image keeps, and its share of the label.

    Args:
      lam: scalar in [0, 1], the desired share of kept pixels.
      centre: `[2]` int, row and column of the middle of the box that the partner fills.
      height: of the image.
      width: of the image.

    Returns:
      `[H, W]` float32, 0 in the box and 1 outside, and the scalar share of pixels outside. The
      box has half sides int(0.5 * sqrt(1 - lam) * side) and is clipped to the image, so the share
      is that of the clipped box.
    """
    half = 0.5 * jnp.sqrt(1.0 - lam)

    def inside(size: int, middle: Array) -> Array:
        half_side = jnp.floor(half * size)
        position = jnp.arange(size, dtype=jnp.float32)
        middle = middle.astype(jnp.float32)
        return (position >= middle - half_side) & (position < middle + half_side)

    box = inside(height, centre[0])[:, None] & inside(width, centre[1])[None, :]
    kept = 1.0 - box.astype(jnp.float32)
    return kept, kept.mean()
