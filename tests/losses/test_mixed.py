import functools

import jax.numpy as jnp
import numpy as np

from jaxrecipes.losses import bce_with_logits, focal_label_smooth_ce, mixed_loss

LOGITS = jnp.array([-2.0, 0.5, 3.0, 0.0])
LABELS = jnp.array([0, 1, 1, 0])
PARTNERS = jnp.array([1, 1, 0, 0])
MIX_LAMBDA = jnp.array([0.3, 0.8, 0.6, 1.0])


def test_mixing_bce_losses_equals_mixing_the_labels():
    loss_fn = functools.partial(bce_with_logits, pos_weight=0.88)
    soft = MIX_LAMBDA * LABELS + (1 - MIX_LAMBDA) * PARTNERS
    np.testing.assert_allclose(
        mixed_loss(loss_fn, LOGITS, LABELS, PARTNERS, MIX_LAMBDA),
        loss_fn(LOGITS, soft),
        rtol=1e-6,
    )


def test_lambda_one_is_the_loss_of_the_image_itself():
    loss_fn = functools.partial(focal_label_smooth_ce, smoothing=0.05, gamma=2.0)
    own, partner = (
        mixed_loss(loss_fn, LOGITS, LABELS, PARTNERS, jnp.full(4, share)) for share in (1.0, 0.0)
    )
    np.testing.assert_array_equal(own, loss_fn(LOGITS, LABELS))
    np.testing.assert_array_equal(partner, loss_fn(LOGITS, PARTNERS))
